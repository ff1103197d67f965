"""The service loop on simulated time: cycles, crashes, edits of the config, stops. No real time passes."""

import pytest

from job.errors import Exit
from job.events.service import (
    CycleCrashed,
    NextCycleDue,
    RunDisabled,
    ServiceStarted,
    ServiceStopped,
    ServiceWaited,
    SignalReceived,
)
from job.service import SLICE_SECONDS
from tests.config.configs import to_settings
from tests.service.simulated import START, World, config


def test_a_cycle_runs_at_start_and_then_sleep_time_after_each_end() -> None:
    world = World(config(), lasts=100, cycle_takes=2)

    code = world.run()

    assert world.since_start() == [0, 32, 64, 96]
    assert code == Exit.OK


def test_the_service_tells_its_start_its_plans_and_its_stop() -> None:
    world = World(config(), lasts=40)

    world.run()

    told = [event for event in world.events if not isinstance(event, ServiceWaited)]
    assert [event.name for event in told] == [
        "service_started",
        "next_cycle_due",
        "next_cycle_due",
        "next_cycle_due",
        "service_stopped",
    ]
    assert isinstance(told[0], ServiceStarted)
    assert (told[0].config, told[0].pairs, told[0].address) == (World.config_path, 1, World.address)
    assert told[2] == NextCycleDue(due_timestamp_seconds=START + 32, wait_seconds=30)
    assert told[-1] == ServiceStopped(reason="SIGTERM")


def test_without_run_at_start_the_first_cycle_waits_for_its_time() -> None:
    world = World(config(run_at_start=False), lasts=40)

    world.run()

    assert world.since_start() == [30]


def test_a_crash_is_told_with_its_traceback_and_waits_like_any_other_cycle() -> None:
    world = World(config(), lasts=100, cycle_takes=0)
    world.crash = ZeroDivisionError("broken")

    code = world.run()

    crashes = world.told(CycleCrashed)
    assert world.since_start() == [0, 30, 60, 90]
    assert len(crashes) == 4
    assert isinstance(crashes[0], CycleCrashed)
    assert crashes[0].error == "ZeroDivisionError: broken"
    assert any("in cycle" in line for line in crashes[0].traceback)
    assert code == Exit.OK


def test_the_config_is_read_again_before_every_cycle_even_if_no_change_was_noticed() -> None:
    two = to_settings(source_dirs=["/source", "/more"], dest_dirs=["/mirror", "/more-mirror"], sleep_time=30)
    world = World(config(), lasts=70)
    world.watched = False
    world.at(10, lambda: world.edit(two))

    world.run()

    assert [len(seen.effective_pairs) for seen in world.configs] == [1, 2, 2]


def test_a_broken_edit_leaves_the_last_good_config_in_force_and_a_mended_one_takes_over() -> None:
    world = World(config(), lasts=100)
    world.at(10, lambda: world.edit(None))
    world.at(40, lambda: world.edit(config(sleep_time=5.0)))

    world.run()

    assert world.since_start()[:4] == [
        0,
        32,
        pytest.approx(42, abs=SLICE_SECONDS),
        pytest.approx(49, abs=SLICE_SECONDS),
    ]
    assert world.configs[1].sleep_time == 30.0


def test_a_bug_in_reading_an_edit_does_not_end_the_service() -> None:
    world = World(config(), lasts=100)
    world.at(10, lambda: setattr(world, "reload_crash", RuntimeError("broken reader")))
    world.at(10, lambda: world.edit(config(sleep_time=29.0)))
    world.at(40, lambda: setattr(world, "reload_crash", None))

    code = world.run()

    assert code == Exit.OK
    assert len(world.told(CycleCrashed)) == 2
    assert world.since_start() == [0, 62, 93]


def test_an_edited_schedule_takes_effect_while_waiting_for_the_old_one() -> None:
    world = World(config(schedule="daily at 02:30"), lasts=4000)
    world.at(1800, lambda: world.edit(config(schedule="every 45 minutes")))

    world.run()

    assert world.since_start() == [0, 2 + 2700]


def test_an_edit_that_leaves_the_schedule_alone_does_not_move_the_plan() -> None:
    world = World(config(jitter=10.0), lasts=40)
    world.at(10, lambda: world.edit(config(jitter=10.0, log_level="debug")))

    world.run()

    assert len(world.told(NextCycleDue)) == 3


def test_a_signal_starts_a_cycle_now_and_the_next_one_counts_from_its_end() -> None:
    world = World(config(sleep_time=1000), lasts=2000, cycle_takes=0)
    world.at(100, lambda: world.send("SIGUSR1"))

    world.run()

    assert world.since_start() == [0, pytest.approx(100, abs=SLICE_SECONDS), pytest.approx(1100, abs=SLICE_SECONDS)]
    assert world.told(SignalReceived) == [SignalReceived(signal="SIGUSR1", effect="busy: False")]


def test_a_signal_in_a_cycle_starts_one_more_right_after_it() -> None:
    world = World(config(sleep_time=1000), lasts=500, cycle_takes=100)
    world.at(50, lambda: world.send("SIGUSR1"))

    world.run()

    assert world.since_start() == [0, pytest.approx(101, abs=1)]


def test_a_signal_makes_the_config_be_read_again_even_if_no_change_was_noticed() -> None:
    world = World(config(sleep_time=1000), lasts=500)
    world.watched = False
    world.at(100, lambda: world.edit(config(sleep_time=50.0)))
    world.at(200, lambda: world.send("SIGHUP"))

    world.run()

    assert world.asked == 1
    assert world.since_start()[1] == pytest.approx(201, abs=SLICE_SECONDS)


def test_a_disabled_service_tells_so_once_and_does_nothing() -> None:
    world = World(config(run_enabled="N"), lasts=3600)

    world.run()

    assert world.cycles == []
    assert world.told(RunDisabled) == [RunDisabled(config=World.config_path, run_enabled="N")]


def test_a_service_that_is_disabled_and_enabled_again_tells_every_change() -> None:
    world = World(config(), lasts=200)
    world.at(40, lambda: world.edit(config(run_enabled="N")))
    world.at(80, lambda: world.edit(config(run_enabled="off")))
    world.at(120, lambda: world.edit(config()))
    world.at(170, lambda: world.edit(config(run_enabled="N")))

    world.run()

    told = [event.run_enabled for event in world.told(RunDisabled) if isinstance(event, RunDisabled)]
    assert told == ["N", "off", "N"]
    assert world.since_start() == [0, 32, pytest.approx(124, abs=1), pytest.approx(156, abs=1)]


def test_the_loop_gives_a_sign_of_life_every_few_seconds() -> None:
    world = World(config(schedule="daily at 02:30"), lasts=3600)

    world.run()

    assert max(world.slept) == SLICE_SECONDS
    assert len(world.told(ServiceWaited)) == len(world.slept) > 3600 / SLICE_SECONDS - 2


def test_a_stop_during_a_cycle_ends_the_service_without_another_plan() -> None:
    world = World(config(), lasts=1, cycle_takes=60)

    code = world.run()

    assert code == Exit.OK
    assert len(world.told(NextCycleDue)) == 1
    assert world.events[-1] == ServiceStopped(reason="SIGTERM")


def test_an_impatient_second_interrupt_still_leaves_a_word() -> None:
    world = World(config(), lasts=60)
    world.crash = KeyboardInterrupt()

    with pytest.raises(KeyboardInterrupt):
        world.run()

    assert isinstance(world.events[-1], ServiceStopped)
