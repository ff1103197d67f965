"""Log lines: one an event, whatever the names; files that break never stop anything."""

import base64
import io
import os
import resource
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from job.core.counts import Tally
from job.core.entry import Kind
from job.core.outcome import Drift, Failure, Result, Skip
from job.events.base import Event
from job.events.pair import (
    BatchCommitted,
    DriftFound,
    FileSkipped,
    FileUpdated,
    MetadataNotKept,
    PairFinished,
    PairStarted,
)
from job.events.service import CycleCrashed, CycleStarted, OutputFailed
from job.outputs.log import Logs
from tests.outputs.logbook import NOON, Told, copied, failed, lines, log_settings, make_logs, read, tell
from tests.outputs.representative import events, moments


def test_a_copied_file_is_one_flat_line() -> None:
    stream = io.StringIO()

    tell(make_logs(stream), copied())

    assert lines(stream.getvalue()) == [
        {
            "timestamp": "2026-09-21T14:13:20.125Z",
            "level": "info",
            "event": "file_copied",
            "message": "Copied music/a.flac: new",
            "cycle_id": "c1",
            "pair": "music",
            "path": "music/a.flac",
            "kind": "file",
            "bytes": 1234,
            "checksum": "sha256:00ff",
            "permissions": "644",
            "reason": "new",
            "duration_seconds": 0.25,
        },
    ]
    assert list(lines(stream.getvalue())[0])[:4] == ["timestamp", "level", "event", "message"]


def test_lines_are_byte_for_byte_what_readers_know() -> None:
    stream, clock = io.StringIO(), iter(moments())
    logs = Logs(clock=lambda: next(clock), failed=Told(), stream=stream)
    logs.configure(log_settings(level="debug"))

    tell(logs, *events())

    assert stream.getvalue() == (Path(__file__).parent / "log_lines.jsonl").read_text("ascii")


@given(st.lists(st.floats(0, 4_000_000_000) | st.floats(1.7e9, 1.7e9 + 0.01), min_size=1))
def test_a_line_tells_when_its_event_was_told(clock: list[float]) -> None:
    stream, times = io.StringIO(), iter(clock)
    logs = Logs(clock=lambda: next(times), failed=Told(), stream=stream)

    tell(logs, *[copied() for _ in clock])

    told = [datetime.fromtimestamp(each, UTC).isoformat(timespec="milliseconds") for each in clock]
    assert [line["timestamp"].replace("Z", "+00:00") for line in lines(stream.getvalue())] == told


def test_a_summary_holds_every_count() -> None:
    stream = io.StringIO()
    tally = Tally(
        copied=2, bytes_copied=2_500_000, folders=4, skipped_by={Skip.UNCHANGED: 7}, failed_by={Failure.IO_ERROR: 1}
    )

    make_logs(stream)(
        PairFinished(
            cycle_id="c1",
            pair="music",
            result=Result.PARTIAL,
            tally=tally,
            duration_seconds=75.5,
            finished_timestamp_seconds=NOON,
        )
    )

    line = lines(stream.getvalue())[0]
    assert line["message"] == ("Pair music partial: 2 copied (2.5 MB), 0 updated, 7 skipped, 1 failed in 1 min 16 s")
    assert {key: line[key] for key in ("entries", "copied", "updated", "skipped", "failed", "folders")} == {
        "entries": 10,
        "copied": 2,
        "updated": 0,
        "skipped": 7,
        "failed": 1,
        "folders": 4,
    }
    assert line["failed_by"] == {"io_error": 1}
    assert line["skipped_by"] == {"unchanged": 7}
    assert line["drift_by"] == {}


PATHS = st.binary(min_size=1, max_size=60)
TEXTS = st.text(st.characters(), max_size=40)


@given(path=PATHS, text=TEXTS)
def test_any_path_and_any_text_make_one_line_that_tells_the_bytes(path: bytes, text: str) -> None:
    pair = {"cycle_id": "c1", "pair": "p"}
    told: list[Event] = [
        copied(path),
        failed(path, text),
        FileUpdated(**pair, path=path, kind=Kind.FILE, permissions="644", reason=text),
        FileSkipped(**pair, path=path, reason=Skip.VANISHED),
        DriftFound(**pair, path=path, kind=Drift.CONTENT),
        MetadataNotKept(**pair, what="owner", path=path, error=text),
    ]
    stream = io.StringIO()
    logs = make_logs(stream)
    logs.configure(log_settings(level="debug"))

    for event in told:
        logs(event)

    made = lines(stream.getvalue())
    assert [line["event"] for line in made] == [event.name for event in told]
    for line in made:
        shown = base64.b64decode(line["path_base64"]) if "path_base64" in line else line["path"].encode()
        assert shown == path
        assert all(value.isprintable() for value in line.values() if isinstance(value, str))


def test_a_path_that_looks_like_a_log_line_stays_a_path() -> None:
    stream = io.StringIO()

    tell(make_logs(stream), failed(b'x"}\n{"level": "info", "event": "file_copied"}\x1b[31m', "no\nline"))

    line = lines(stream.getvalue())[0]
    assert line["event"] == "file_failed"
    assert line["path"].startswith('x"}\\n{"level"')


def test_floats_that_are_no_json_numbers_become_null() -> None:
    stream = io.StringIO()
    event = PairFinished(
        cycle_id="c1",
        pair="p",
        result=Result.FAILED,
        tally=Tally(),
        duration_seconds=float("nan"),
        finished_timestamp_seconds=float("inf"),
    )

    make_logs(stream)(event)

    line = lines(stream.getvalue())[0]
    assert line["duration_seconds"] is None
    assert line["finished_timestamp_seconds"] is None


def test_a_traceback_is_a_list_of_lines() -> None:
    stream = io.StringIO()

    make_logs(stream)(CycleCrashed(error="boom", traceback=("Traceback:", "  File 'x'")))

    assert lines(stream.getvalue())[0]["traceback"] == ["Traceback:", "  File 'x'"]


def test_events_below_the_level_and_counting_events_are_not_logged() -> None:
    stream = io.StringIO()
    logs = make_logs(stream)

    logs(FileSkipped(cycle_id="c1", pair="p", path=b"a", reason=Skip.UNCHANGED))
    logs(BatchCommitted(cycle_id="c1", pair="p", tally=Tally()))
    logs.configure(log_settings(level="error"))
    logs(DriftFound(cycle_id="c1", pair="p", path=b"a", kind=Drift.MISSING))

    assert stream.getvalue() == ""


def test_the_log_file_gets_everything_and_the_error_file_what_is_wrong(tmp_path: Path) -> None:
    everything, wrong = tmp_path / "new" / "all.log", tmp_path / "new" / "error.log"
    logs = make_logs()
    logs.configure(log_settings(log_file=str(everything), error_log_file=str(wrong)))

    tell(logs, copied())
    tell(logs, failed())

    assert [line["event"] for line in read(everything)] == ["file_copied", "file_failed"]
    assert [line["event"] for line in read(wrong)] == ["file_failed"]
    assert everything.stat().st_mode & 0o7777 == 0o600


def test_one_file_named_twice_gets_each_line_once(tmp_path: Path) -> None:
    path = tmp_path / "all.log"
    logs = make_logs()
    logs.configure(log_settings(log_file=str(path), error_log_file=str(path)))

    tell(logs, failed())

    assert len(read(path)) == 1


def test_a_log_file_is_opened_again_when_it_was_rotated_away(tmp_path: Path) -> None:
    path = tmp_path / "all.log"
    logs = make_logs()
    logs.configure(log_settings(log_file=str(path)))
    tell(logs, copied(b"before"))

    path.rename(tmp_path / "all.log.1")
    tell(logs, copied(b"after"))

    assert read(tmp_path / "all.log.1")[0]["path"] == "before"
    assert [line["path"] for line in read(path)] == ["after"]


def test_lines_are_added_to_what_the_file_holds(tmp_path: Path) -> None:
    path = tmp_path / "all.log"
    for name in (b"first", b"second"):
        logs = make_logs()
        logs.configure(log_settings(log_file=str(path)))
        tell(logs, copied(name))
        logs.close()

    assert [line["path"] for line in read(path)] == ["first", "second"]


def test_new_settings_close_files_that_are_no_longer_named(tmp_path: Path) -> None:
    old, new = tmp_path / "old.log", tmp_path / "new.log"
    logs = make_logs()
    logs.configure(log_settings(log_file=str(old)))
    tell(logs, copied(b"old"))
    descriptors = len(os.listdir("/proc/self/fd"))

    logs.configure(log_settings(log_file=str(new)))
    tell(logs, copied(b"new"))

    assert len(read(old)) == 1
    assert len(read(new)) == 1
    assert len(os.listdir("/proc/self/fd")) == descriptors


def plant_link(path: Path) -> None:
    (path.parent / "victim").write_text("precious")
    path.symlink_to(path.parent / "victim")


def plant_dangling_link(path: Path) -> None:
    path.symlink_to(path.parent / "nowhere")


def plant_device(path: Path) -> None:
    os.mknod(path, 0o600 | 0o020000, os.makedev(1, 7))


PLANTED = {
    "a link": ("a link", plant_link),
    "a dangling link": ("a link", plant_dangling_link),
    "a fifo": ("a named pipe", os.mkfifo),
    "a folder": ("a folder", os.mkdir),
    "a device": pytest.param("a device", plant_device, marks=pytest.mark.needs_root),
}


@pytest.mark.parametrize(("words", "plant"), PLANTED.values(), ids=PLANTED.keys())
def test_what_is_no_regular_file_is_refused_and_told_once(words: str, plant: Any, tmp_path: Path) -> None:
    path, stream, told = tmp_path / "all.log", io.StringIO(), Told()
    plant(path)
    logs = make_logs(stream, told)
    logs.configure(log_settings(log_file=str(path)))

    tell(logs, copied())
    tell(logs, copied())

    assert [output for output, _ in told.outages] == ["log_file"]
    assert told.outages[0][1].startswith(f"{path} is {words}; ")
    assert len(lines(stream.getvalue())) == 2
    assert not (tmp_path / "nowhere").exists()
    if (tmp_path / "victim").exists():
        assert (tmp_path / "victim").read_text() == "precious"


def test_a_fifo_with_a_reader_is_refused_too(tmp_path: Path) -> None:
    path, told = tmp_path / "all.log", Told()
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    logs = make_logs(None, told)
    logs.configure(log_settings(log_file=str(path)))

    tell(logs, copied())

    assert os.read(reader, 10) == b""
    os.close(reader)
    ((output, error),) = told.outages
    assert output == "log_file"
    assert error.startswith(f"{path} is a named pipe; ")


def test_a_missing_permission_is_told_once_and_the_file_is_tried_again(tmp_path: Path) -> None:
    folder, told = tmp_path / "folder", Told()
    folder.write_text("in the way")
    logs = make_logs(None, told)
    logs.configure(log_settings(log_file=str(folder / "all.log")))
    tell(logs, copied(b"lost"))

    folder.unlink()
    tell(logs, copied(b"kept"))
    logs.close()
    (folder / "all.log").unlink()
    folder.rmdir()
    folder.write_text("in the way again")
    tell(logs, copied(b"lost"))

    assert [output for output, _ in told.outages] == ["log_file", "log_file"]


def test_telling_an_outage_may_log_without_telling_again(tmp_path: Path) -> None:
    stream = io.StringIO()

    def note(output: str, error: str) -> None:
        logs(OutputFailed(output=output, error=error))

    logs = Logs(clock=lambda: NOON, failed=note, stream=stream)
    logs.configure(log_settings(log_file=str(tmp_path), error_log_file="/dev/full"))

    tell(logs, failed())

    assert [line["event"] for line in lines(stream.getvalue())] == ["file_failed", "output_failed", "output_failed"]


def test_a_closed_stream_is_an_outage(tmp_path: Path) -> None:
    path, stream, told = tmp_path / "all.log", io.StringIO(), Told()
    stream.close()
    logs = make_logs(stream, told)
    logs.configure(log_settings(log_file=str(path)))

    tell(logs, copied())

    assert [output for output, _ in told.outages] == ["stdout"]
    assert len(read(path)) == 1


FULL_DISK = """
import resource, sys
from job.outputs.log import Logs
from tests.outputs.logbook import log_settings
from job.events.service import CycleStarted

path, limit = sys.argv[1], int(sys.argv[2])
told = []
logs = Logs(clock=lambda: 0.0, failed=lambda *outage: told.append(outage), stream=None)
logs.configure(log_settings(log_file=path))
event = CycleStarted(cycle_id="c1", pairs=("a",))
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
for _ in range(10):
    logs(event)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
logs(event)
print(len(told), told[0][0])
"""


def test_a_file_that_cannot_grow_is_told_once_and_holds_no_torn_line_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "all.log"
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY

    ran = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(path), "250"], capture_output=True, text=True, check=True
    )

    assert ran.stdout == "1 log_file\n"
    assert [line["event"] for line in read(path)] == ["cycle_started"] * 3


def test_the_time_is_utc_with_milliseconds() -> None:
    stream = io.StringIO()
    logs = Logs(clock=lambda: 0.0, failed=Told(), stream=stream)

    logs(CycleStarted(cycle_id="c1", pairs=("a", "b")))

    line = lines(stream.getvalue())[0]
    assert line["timestamp"] == "1970-01-01T00:00:00.000Z"
    assert line["pairs"] == ["a", "b"]


def test_a_config_path_that_is_not_utf8_is_shown_with_escapes() -> None:
    stream = io.StringIO()

    make_logs(stream)(
        PairStarted(cycle_id="c", pair="p", source=os.fsdecode(b"/\xe9t\xc3\xa9"), mirror="/m", audit=True)
    )

    assert lines(stream.getvalue())[0]["source"] == "/\\xe9té"


def test_a_line_that_another_process_left_torn_takes_no_other_along(tmp_path: Path) -> None:
    path = tmp_path / "all.log"
    path.write_text('{"whole": 1}\n{"tor')
    logs = make_logs(None, Told())
    logs.configure(log_settings(log_file=str(path)))

    tell(logs, copied(), copied())

    whole, torn, *ours = path.read_text().splitlines(keepends=True)
    path.write_text("".join(ours))
    assert (whole, torn) == ('{"whole": 1}\n', '{"tor\n')
    assert [line["event"] for line in read(path)] == ["file_copied"] * 2
