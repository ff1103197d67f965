"""Lines of a batch are written together: none is lost, none comes twice, and their order stays."""

import io
import json
import math
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from job.config.settings import LogLevel
from job.core.counts import Tally
from job.events.base import Event
from job.events.pair import BatchCommitted, FoldersUnchanged, Progressed
from job.events.service import CycleStarted, OutputFailed
from job.outputs.log import MOST_WAITING, Logs
from tests.events.facts import logged_events
from tests.outputs.logbook import NOON, Told, copied, failed, lines, log_settings, make_logs, read, tell

COMMITTED = BatchCommitted(cycle_id="c1", pair="music", tally=Tally())
LEVELS: tuple[LogLevel, ...] = ("debug", "info", "warning", "error")


def paths(text: str) -> list[str]:
    return [line["path"] for line in lines(text)] if text else []


def test_lines_of_a_batch_wait_for_its_commit() -> None:
    stream = io.StringIO()
    logs = make_logs(stream)

    logs(copied(b"a"))
    logs(failed(b"b"))
    before = stream.getvalue()
    logs(COMMITTED)

    assert before == ""
    assert paths(stream.getvalue()) == ["a", "b"]


ENDS: dict[str, Callable[[Logs], None]] = {
    "a commit": lambda logs: logs(COMMITTED),
    "a sign of progress": lambda logs: logs(Progressed(cycle_id="c1", pair="music", phase="copy", entries=1)),
    "an event below the level": lambda logs: logs(
        FoldersUnchanged(cycle_id="c1", pair="music", folders=1, entries=1),
    ),
    "other settings": lambda logs: logs.configure(log_settings(level="error")),
    "the end": lambda logs: logs.close(),
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS.keys())
def test_what_waits_is_written_with(end: Callable[[Logs], None], tmp_path: Path) -> None:
    path, stream = tmp_path / "all.log", io.StringIO()
    logs = make_logs(stream)
    logs.configure(log_settings(log_file=str(path)))
    logs(copied())

    end(logs)

    assert path.read_text("ascii") == stream.getvalue()
    assert len(lines(stream.getvalue())) == 1


def test_an_event_of_another_kind_comes_after_the_lines_that_wait() -> None:
    stream = io.StringIO()
    logs = make_logs(stream)

    logs(copied())
    logs(CycleStarted(cycle_id="c1", pairs=("a",)))

    assert [line["event"] for line in lines(stream.getvalue())] == ["file_copied", "cycle_started"]


def test_a_batch_without_an_end_does_not_fill_the_memory() -> None:
    stream = io.StringIO()
    logs = make_logs(stream)
    logs(copied())
    logs.configure(log_settings())
    most = MOST_WAITING // len(stream.getvalue())

    for _ in range(most + 1):
        logs(copied())

    assert len(lines(stream.getvalue())) == most + 2


def test_after_the_end_no_line_waits(tmp_path: Path) -> None:
    path = tmp_path / "all.log"
    logs = make_logs()
    logs.configure(log_settings(log_file=str(path)))
    logs.close()

    logs(copied())

    assert len(read(path)) == 1


@given(told=st.lists(logged_events, max_size=20), level=st.sampled_from(LEVELS))
def test_every_line_is_in_its_files_once_and_in_order(
    tmp_path_factory: pytest.TempPathFactory, told: list[Event], level: LogLevel
) -> None:
    folder = tmp_path_factory.mktemp("logs")
    everything, wrong, stream = folder / "all.log", folder / "error.log", io.StringIO()
    logs = make_logs(stream)
    logs.configure(log_settings(level=level, log_file=str(everything), error_log_file=str(wrong)))

    for event in told:
        logs(event)
    logs.close()

    shown = [event for event in told if LEVELS.index(event.level or "") >= LEVELS.index(level)]
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == [event.name for event in shown]
    for path, kept in ((everything, LEVELS), (wrong, ("warning", "error"))):
        expected = [line for line in stream.getvalue().splitlines() if json.loads(line)["level"] in kept]
        assert (path.read_text("ascii").splitlines() if path.exists() else []) == expected


def test_threads_that_tell_at_the_same_time_lose_nothing_and_keep_their_order(tmp_path: Path) -> None:
    path, each, told = tmp_path / "all.log", 300, Told()
    logs = make_logs(None, told)
    logs.configure(log_settings(log_file=str(path)))

    def work(name: int) -> None:
        for number in range(each):
            logs(copied(b"%d/%d" % (name, number)))
            if number % 50 == 49:
                logs(COMMITTED)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    found = [line["path"].split("/") for line in read(path)]
    for name in range(4):
        assert [int(number) for thread, number in found if thread == str(name)] == list(range(each))
    assert told.outages == []


def test_a_file_that_is_rotated_away_while_lines_wait_gets_none_of_them(tmp_path: Path) -> None:
    path = tmp_path / "all.log"
    logs = make_logs()
    logs.configure(log_settings(log_file=str(path)))
    tell(logs, copied(b"before"))
    logs(copied(b"waiting"))

    path.rename(tmp_path / "all.log.1")
    tell(logs, copied(b"after"))

    assert [line["path"] for line in read(tmp_path / "all.log.1")] == ["before"]
    assert [line["path"] for line in read(path)] == ["waiting", "after"]


def test_a_full_disk_is_told_once_for_a_batch_and_stops_no_other_output(tmp_path: Path) -> None:
    path, told = tmp_path / "all.log", Told()
    with open("/dev/full", "w", encoding="ascii") as full:
        logs = make_logs(full, told)
        logs.configure(log_settings(log_file=str(path)))

        tell(logs, *[copied() for _ in range(1000)])
        tell(logs, copied())

    assert told.outages == [("stdout", "No space left on device")]
    assert len(read(path)) == 1001


def test_an_output_that_breaks_while_another_is_told_of_is_told_of_too(tmp_path: Path) -> None:
    outages: list[str] = []

    def note(output: str, error: str) -> None:
        outages.append(output)
        logs(OutputFailed(output=output, error=error))

    logs = Logs(clock=lambda: NOON, failed=note, stream=None)
    logs.configure(log_settings(log_file=str(tmp_path), error_log_file="/dev/full"))

    tell(logs, copied())

    assert outages == ["log_file", "error_log_file"]


FULL_DISK = """
import resource, sys
from tests.outputs.logbook import Told, copied, log_settings, make_logs, tell

path, limit, told = sys.argv[1], int(sys.argv[2]), Told()
logs = make_logs(None, told)
logs.configure(log_settings(log_file=path))
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
tell(logs, *[copied(b"first/%03d" % number) for number in range(100)])
tell(logs, *[copied(b"other/%03d" % number) for number in range(100)])
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
tell(logs, *[copied(b"later/%03d" % number) for number in range(100)])
print(*told.outages)
"""


@pytest.mark.parametrize(("room", "kept"), [(10.0, 10), (10.001, 11), (10.5, 11), (10.999, 11)])
def test_what_fits_of_a_batch_is_written_and_a_line_that_was_begun_is_ended_later(
    tmp_path: Path, room: float, kept: int
) -> None:
    path, stream = tmp_path / "all.log", io.StringIO()
    tell(make_logs(stream), copied(b"first/000"))
    limit = math.ceil(room * len(stream.getvalue()))

    ran = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(path), str(limit)], capture_output=True, text=True, check=True
    )

    assert ran.stdout == f"('log_file', '{path} cannot be written: File too large')\n"
    found = [line["path"] for line in read(path)]
    assert found[:-100] == [f"first/{number:03}" for number in range(kept)]
    assert found[-100:] == [f"later/{number:03}" for number in range(100)]


def test_a_reader_that_does_not_keep_up_gets_no_torn_line() -> None:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    told = Told()
    with open(writer, "w", encoding="ascii") as stream, open(reader, encoding="ascii") as output:
        logs = make_logs(stream, told)
        tell(logs, *[copied(b"many/%d" % number) for number in range(1000)])
        text = os.read(output.fileno(), 1 << 20).decode("ascii")
        tell(logs, copied(b"last"))
        text += os.read(output.fileno(), 1 << 20).decode("ascii")

    found = paths(text)
    assert found == [f"many/{number}" for number in range(len(found) - 1)] + ["last"]
    assert [output for output, _ in told.outages] == ["stdout"]


COUNTED = """
import sys
from tests.outputs.logbook import copied, failed, log_settings, make_logs, tell

logs = make_logs(sys.stdout)
logs.configure(log_settings(log_file="all.log", error_log_file="error.log"))
for number in range(3):
    tell(logs, *[copied(b"%d" % number) for number in range(500)], failed())
logs.close()
"""


@pytest.mark.needs_tool("strace")
def test_a_batch_costs_one_write_and_one_look_for_each_file(tmp_path: Path) -> None:
    trace = tmp_path / "trace"

    subprocess.run(
        ["strace", "-y", "-e", "trace=write,%%stat,openat", "-o", str(trace), sys.executable, "-c", COUNTED],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.DEVNULL,
        check=True,
    )

    for name, count in (("all.log", 1503), ("error.log", 3)):
        calls = [line for line in trace.read_text("utf-8", "replace").splitlines() if name in line]
        made = [re.split(r"\W", call)[0] for call in calls]
        assert len(read(tmp_path / name)) == count
        assert made.count("write") == 3
        assert len(made) == 3 + 2 + 2  # opened and looked at once, and looked for before each later write
