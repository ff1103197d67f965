"""When the service loop runs its cycles: a year of nights, and clocks that people and time servers set."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from job.errors import Exit
from tests.service.simulated import START, World, config, moment


@pytest.mark.parametrize(
    ("last_success", "first"),
    [
        ("2026-06-01T02:31", "2026-06-02T02:30"),
        ("2026-05-31T02:31", "2026-06-01T12:00"),
        ("2020-01-01T00:00", "2026-06-01T12:00"),
    ],
)
def test_a_time_missed_while_the_service_was_down_is_caught_up_at_start(last_success: str, first: str) -> None:
    world = World(config(run_at_start=False, schedule="daily at 02:30"), lasts=86400 - 1)
    world.success = moment(last_success)

    world.run(slice_seconds=3600)

    assert world.cycles[0] == pytest.approx(moment(first), abs=1)


def test_a_first_start_that_never_succeeded_misses_nothing() -> None:
    world = World(config(run_at_start=False, schedule="daily at 02:30"), lasts=3600)

    world.run(slice_seconds=600)

    assert world.cycles == []


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"])
def test_a_daily_service_runs_once_every_local_day_of_a_year(zone: str) -> None:
    local = ZoneInfo(zone)
    start = datetime(2026, 1, 1, tzinfo=local).timestamp()
    end = datetime(2027, 1, 1, tzinfo=local).timestamp()
    world = World(
        config(schedule="daily at 02:30", timezone=zone, run_at_start=False),
        start=start,
        lasts=end - start - 1,
        cycle_takes=1200,
    )

    world.run(slice_seconds=7200)

    ran = [datetime.fromtimestamp(cycle, local) for cycle in world.cycles]
    assert [day.date() for day in ran] == [date(2026, 1, 1) + timedelta(days=day) for day in range(365)]
    usual = [day for day in ran if (day.hour, day.minute) == (2, 30)]
    assert len(usual) >= 364


def test_a_cycle_that_runs_over_its_next_time_does_not_run_twice_in_a_row() -> None:
    world = World(config(schedule="daily at 02:30"), lasts=5 * 86400, cycle_takes=26 * 3600)

    world.run(slice_seconds=3600)

    assert [datetime.fromtimestamp(cycle, UTC).strftime("%d %H:%M") for cycle in world.cycles] == [
        "01 12:00",
        "03 02:30",
        "05 02:30",
    ]


def test_even_without_any_sleep_time_there_is_a_second_between_cycles() -> None:
    world = World(config(sleep_time=0.0), lasts=10.5, cycle_takes=0)

    world.run()

    assert len(world.cycles) == 11
    assert all(later - earlier >= 1 for earlier, later in zip(world.cycles, world.cycles[1:], strict=False))


def test_a_clock_set_back_does_not_stall_an_interval() -> None:
    world = World(config(sleep_time=600.0), lasts=3600, cycle_takes=0)
    world.at(700, lambda: setattr(world, "wall", world.wall - 6 * 3600))

    world.run()

    assert [round(seconds) for seconds in world.elapsed] == [0, 600, 1200, 1800, 2400, 3000]


def test_a_clock_set_back_a_little_does_not_make_a_daily_time_come_twice() -> None:
    world = World(config(schedule="daily at 02:30", run_at_start=False), lasts=3 * 86400, cycle_takes=1)
    world.at(3600, lambda: setattr(world, "wall", world.wall - 5))

    world.run(slice_seconds=1800)

    assert [datetime.fromtimestamp(cycle, UTC).strftime("%d %H:%M:%S") for cycle in world.cycles] == [
        "02 02:29:55",
        "03 02:30:00",
        "04 02:30:00",
    ]


def test_a_clock_set_back_far_makes_a_daily_service_run_once_too_often_rather_than_late() -> None:
    world = World(config(schedule="daily at 02:30", run_at_start=False), lasts=2 * 86400, cycle_takes=1)
    world.at(3600, lambda: setattr(world, "wall", world.wall - 6 * 3600))

    world.run(slice_seconds=1800)

    assert [datetime.fromtimestamp(cycle, UTC).strftime("%d %H:%M") for cycle in world.cycles] == [
        "01 20:30",
        "02 02:30",
        "03 02:30",
    ]


def test_a_clock_set_forward_brings_the_missed_time_at_once() -> None:
    world = World(config(schedule="daily at 02:30", run_at_start=False), lasts=7200)
    world.at(3600, lambda: setattr(world, "wall", world.wall + 20 * 3600))

    world.run(slice_seconds=60)

    assert [round(cycle - START - 21 * 3600) for cycle in world.cycles] == [0]


def test_a_clock_years_ahead_for_a_while_costs_no_more_than_one_wait() -> None:
    world = World(config(sleep_time=600.0), lasts=3600, cycle_takes=0)
    world.at(100, lambda: setattr(world, "wall", world.wall + 10 * 365 * 86400))
    world.at(200, lambda: setattr(world, "wall", world.wall - 10 * 365 * 86400))

    world.run()

    assert world.since_start()[2:] == [pytest.approx(705 + 600 * count, abs=6) for count in range(5)]


@pytest.mark.parametrize(("chance", "second"), [(0.0, 32), (0.5, 37), (1.0, 42)])
def test_jitter_adds_its_share_to_every_planned_start(chance: float, second: float) -> None:
    world = World(config(jitter=10.0), lasts=60)

    world.run(chance=chance)

    assert world.since_start()[1] == second


def test_an_endless_jitter_or_sleep_time_is_no_crash() -> None:
    world = World(config(jitter=1e300, sleep_time=1e300), lasts=60)

    assert world.run(chance=1.0) == Exit.OK
