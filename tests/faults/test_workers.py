"""Workers that are killed, stopped, orphaned or starved: nothing torn, nothing lost unsaid, nobody left over."""

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.faults.processes import children, is_alive, open_files, state_of, who_writes, workers_of
from tests.faults.rig import Rig, Running, until
from tests.faults.tampering import injected
from tests.faults.test_service import free_port
from tests.faults.trees import entries_below, plant_folders

pytestmark = pytest.mark.one_process  # the tests say themselves how many workers there are

SLOW = "slow/slow"
SLOW_BYTES = 128 << 20
FOLDERS = 12
needs_strace = pytest.mark.needs_tool("strace")


@pytest.fixture
def rig(rig: Rig) -> Iterator[Rig]:
    """A source whose folders go to several workers; one of them has a file that takes a while."""
    rig.finely = True
    rig.configure(workers=2, workers_from=0)
    plant_folders(rig.source, FOLDERS)
    (rig.source / "slow").mkdir()
    with (rig.source / SLOW).open("wb") as file:
        block = os.urandom(1 << 20)  # a hole would be passed over in writing
        for _ in range(SLOW_BYTES // len(block)):
            file.write(block)
    yield rig
    (rig.source / SLOW).unlink()


def busy_worker(rig: Rig, running: Running) -> int:
    """Wait until a worker is in the middle of the slow file."""

    def is_at_it() -> bool:
        return any(temp.stat().st_size > 1 << 20 for temp in (rig.mirror / "slow").glob(".truecopy-tmp-*"))

    until(is_at_it)
    worker = who_writes(running.process.pid, "slow/.truecopy-tmp-")
    assert worker is not None
    return worker


def heals(rig: Rig) -> None:
    """The next run is a success and leaves an equal tree, no temp and no note of any."""
    again = rig.once()
    assert again.code == 0, again
    assert not again.of("worker_lost")
    assert not again.of("index_rebuilt")
    assert rig.mirrored == rig.wanted
    assert not rig.temps
    assert not list(rig.state.glob("leftovers*"))
    assert sum(again.counts) == entries_below(rig.source)


def holds_whole_files(rig: Rig) -> None:
    """What has a final name is as the source has it."""
    wanted = rig.wanted
    for path, thing in rig.mirrored.items():
        if thing.kind == "-" and b".truecopy-tmp-" not in path:
            assert thing.content == wanted[path].content


# Lost workers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [2, 8])
def test_a_worker_killed_in_mid_batch_loses_its_errands_and_nothing_else(rig: Rig, workers: int) -> None:
    rig.configure(workers=workers, workers_from=0)
    with rig.started("run", "--once") as running:
        os.kill(busy_worker(rig, running), signal.SIGKILL)
        code = running.process.wait(60)
        summary = running.wait_for("cycle_finished")
        lost = running.wait_for("worker_lost")
    failed = {line["path"]: line["reason"] for line in running.lines if line["event"] == "file_failed"}
    copied = {line["path"] for line in running.lines if line["event"] == "file_copied"}

    assert code == 3
    assert lost["error"] == "it was killed by SIGKILL"
    assert failed["slow"] == "worker_lost"
    assert set(failed.values()) == {"worker_lost"}, [line for line in running.lines if line["event"] == "file_failed"]
    assert summary["failed_by"] == {"worker_lost": len(failed)}
    assert summary["copied"] == len(copied)
    untold = {os.fsdecode(path) for path, thing in rig.wanted.items() if thing.kind == "-"} - copied
    assert {os.path.dirname(path) for path in untold} <= failed.keys()
    assert not (rig.mirror / SLOW).exists()
    holds_whole_files(rig)
    heals(rig)


@needs_strace
def test_when_worker_after_worker_is_killed_the_cycle_ends_all_the_same(rig: Rig) -> None:
    rig.configure(exclude=["*"], workers=1)
    rig.once()  # so that it is known what the mirror can hold: to find that out is the main process's
    rig.configure(workers=2, workers_from=0)
    done = rig.once(prefix=injected("utimensat", "signal=KILL", log=rig.base / "strace.log"))

    assert done.code == 3
    assert len(done.of("worker_lost")) > 2
    assert set(done.failed.values()) == {"worker_lost"}
    assert not done.copied
    holds_whole_files(rig)
    heals(rig)


@needs_strace
def test_a_folder_that_the_main_process_makes_while_a_worker_clears_its_place_is_taken_as_it_is(rig: Rig) -> None:
    rig.configure(workers=1)
    place = rig.source / "folder 1/was a file"
    place.write_text("content")
    rig.once()
    place.unlink()
    place.mkdir()
    (place / "file").write_text("content")
    folder, calls = rig.mirror / "folder 1", "rename,renameat,renameat2"
    prefix = injected(calls, "delay_exit=1000000:when=1", log=rig.base / "strace.log", paths=(folder,))

    with ThreadPoolExecutor(1) as other:
        cycle = other.submit(rig.once, prefix=prefix)
        until(lambda: not (folder / place.name).exists())
        (folder / place.name).mkdir()
        done = cycle.result()

    assert done.code == 0
    assert done.counts == (1, 0, entries_below(rig.source) - 1, 0)
    assert rig.mirrored == rig.wanted
    assert not rig.temps


# The main process is lost ---------------------------------------------------------------------------------------------


def test_workers_of_a_killed_main_process_hold_the_lock_until_they_are_gone_and_write_no_name(rig: Rig) -> None:
    with rig.started("run", "--once") as running:
        worker = busy_worker(rig, running)
        workers = workers_of(running.process.pid)
        for each in workers:
            os.kill(each, signal.SIGSTOP)
        running.process.kill()
        running.process.wait()
        while_they_live = rig.once()
        names = set(rig.mirrored)
        for each in workers:
            os.kill(each, signal.SIGCONT)
        until(lambda: not any(map(is_alive, workers)))

    assert worker in workers
    assert while_they_live.code == 75
    assert while_they_live.the("pair_busy")
    assert set(rig.mirrored) == names
    assert not (rig.mirror / SLOW).exists()
    holds_whole_files(rig)
    heals(rig)


# Signals --------------------------------------------------------------------------------------------------------------


def test_a_stop_with_workers_in_the_middle_of_a_file_is_quick_and_leaves_no_temp(rig: Rig) -> None:
    with rig.started("run", "--once") as running:
        busy_worker(rig, running)
        workers = workers_of(running.process.pid)
        code, seconds = running.end(signal.SIGTERM)
        summary = running.wait_for("cycle_finished")

    assert (code, summary["result"], summary["failed"]) == (143, "stopped", 0)
    assert seconds < 5
    assert not any(map(is_alive, workers))
    assert not rig.temps
    assert not [line for line in running.lines if line["event"] == "worker_lost"]
    heals(rig)


def test_an_interrupt_from_the_terminal_reaches_all_and_ends_the_run_once(rig: Rig) -> None:
    with rig.started("run", "--once", group=True) as running:
        busy_worker(rig, running)
        workers = workers_of(running.process.pid)
        code, seconds = running.end(signal.SIGINT, group=True)

    assert code == 130
    assert seconds < 5
    assert not any(map(is_alive, workers))
    assert not [line for line in running.lines if line["event"] == "worker_lost"]
    assert "Traceback" not in running.errors
    assert not rig.temps
    heals(rig)


def test_a_stop_signal_to_a_worker_alone_changes_nothing(rig: Rig) -> None:
    with rig.started("run", "--once") as running:
        worker = busy_worker(rig, running)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
            os.kill(worker, number)
        code = running.process.wait(60)

    assert code == 0
    assert rig.mirrored == rig.wanted


def test_a_stopped_worker_does_not_keep_the_run_from_ending(rig: Rig) -> None:
    with rig.started("run", "--once") as running:
        workers = [busy_worker(rig, running)]
        os.kill(workers[0], signal.SIGSTOP)
        code, seconds = running.end(signal.SIGTERM)

    assert code == 143
    assert seconds < 5
    assert not any(map(is_alive, workers))
    holds_whole_files(rig)
    heals(rig)


# The service ----------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["forked", "fresh"])
def service_rig(rig: Rig, request: pytest.FixtureRequest) -> Rig:
    """A service without threads, which forks its workers, and one with threads, which starts fresh interpreters."""
    metrics = {"enabled": request.param == "fresh", "port": free_port(), "textfile": str(rig.textfile)}
    rig.configure(workers=3, workers_from=0, sleep_time=0.2, metrics=metrics)
    return rig


def test_a_service_with_workers_stops_soon_and_leaves_no_temp(service_rig: Rig) -> None:
    with service_rig.started("run") as service:
        busy_worker(service_rig, service)
        left = children(service.process.pid)
        code, seconds = service.end(signal.SIGTERM)

    assert code == 0
    assert seconds < 5
    until(lambda: not any(map(is_alive, left)))
    assert not service_rig.temps
    assert [line["result"] for line in service.lines if line["event"] == "cycle_finished"] == ["stopped"]
    heals(service_rig)


def test_a_service_whose_worker_is_killed_copies_the_rest_and_all_in_the_next_cycle(service_rig: Rig) -> None:
    with service_rig.started("run") as service:
        os.kill(busy_worker(service_rig, service), signal.SIGKILL)
        service.wait_for("cycle_finished", result="partial")
        service.wait_for("cycle_finished", result="success")
        service.end(signal.SIGTERM)

    assert service_rig.mirrored == service_rig.wanted
    assert not service_rig.temps
    assert "Traceback" not in service.errors


def test_a_service_keeps_no_process_and_no_descriptor_from_cycle_to_cycle(service_rig: Rig) -> None:
    kept = []
    with service_rig.started("run") as service:
        for cycle in range(1, 7):
            (service_rig.source / f"folder {cycle}" / f"new {cycle}").write_text("new")
            service.wait_for("file_copied", path=f"folder {cycle}/new {cycle}")
            kept.append(at_rest(service))
        service.end(signal.SIGTERM)

    assert kept[1:] == [kept[1]] * 5
    assert service_rig.mirrored == service_rig.wanted


def at_rest(service: Running) -> tuple[list[str], list[str]]:
    """Wait until no worker is left between two cycles; give the states of what is, and the open files."""
    found: list[tuple[list[str], list[str]]] = []

    def is_at_rest() -> bool:
        pid = service.process.pid
        found.append(([state_of(child) for child in children(pid)], sorted(open_files(pid))))
        # As after a cycle, on a slow disk: the history, or what is known of the pair. Between cycles no state is open.
        writes = any("/.truecopy" in name or "/truecopy/private" in name for name in found[-1][1])
        return len(found) > 2 and found[-1] == found[-2] == found[-3] and not workers_of(pid) and not writes

    until(is_at_rest)
    return found[-1]
