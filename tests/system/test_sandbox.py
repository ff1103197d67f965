"""The second wall: work in a thread that the kernel walls in, and what is told of it outside."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from job.config.settings import Landlock
from job.core.outcome import Refusal, Result, Skip
from job.errors import Refused
from job.events.base import Event, Listener
from job.events.pair import FileSkipped, MountSkipped
from job.events.service import RunDisabled
from job.fs.private_folders import ScratchFolder
from job.system import sandbox
from job.system.sandbox import Sandbox
from tests.walls import needs_landlock


class Missing(list[str]):
    """What is told of walls that are missing."""

    def __call__(self, reason: str) -> None:
        self.append(reason)


@pytest.fixture
def missing() -> Missing:
    return Missing()


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[tuple[int, int, int]]:
    """An open source, mirror and state folder."""
    for name in ("source", "mirror", "state"):
        (tmp_path / name).mkdir()
    descriptors = [os.open(tmp_path / name, os.O_RDONLY) for name in ("source", "mirror", "state")]
    yield descriptors[0], descriptors[1], descriptors[2]
    for each in descriptors:
        os.close(each)


SCRATCH = ScratchFolder(os.environ)


@pytest.fixture(autouse=True)
def _no_scratch_left() -> Iterator[None]:
    yield
    SCRATCH.close()


def made(wanted: Landlock, missing: Missing) -> Sandbox:
    return Sandbox(wanted, SCRATCH, missing)


def skipped(number: int) -> Event:
    return FileSkipped(cycle_id="c", pair="p", path=b"%d" % number, reason=Skip.UNCHANGED)


def mounted(number: int) -> Event:
    return MountSkipped(cycle_id="c", pair="p", path=b"%d" % number, file_system="ext4")


def tries_to_write(path: Path) -> bool:
    try:
        path.write_text("written")
    except PermissionError:
        return False
    return True


@needs_landlock
@pytest.mark.parametrize("wanted", ["auto", "required"])
def test_the_work_is_walled_in_and_what_comes_after_it_is_not(
    tmp_path: Path, folders: tuple[int, int, int], missing: Missing, wanted: Landlock
) -> None:
    sandboxed = made(wanted, missing)
    could: dict[str, bool] = {}

    def work(_: Listener) -> Result:
        could["before"] = tries_to_write(tmp_path / "outside")
        sandboxed.restrict(*folders)
        for place in ("outside", "source/file", "mirror/file", "state/file"):
            could[place] = tries_to_write(tmp_path / place)
        return Result.PARTIAL

    result = sandboxed.run(work, print)
    could["after"] = tries_to_write(tmp_path / "outside")

    assert result is Result.PARTIAL
    expected = {"before", "mirror/file", "state/file", "after"}
    assert {place for place, so in could.items() if so} == expected
    assert not missing


@needs_landlock
def test_one_pair_after_the_other_has_a_wall_of_its_own(tmp_path: Path, missing: Missing) -> None:
    sandboxed = made("auto", missing)
    for number in range(20):  # the kernel lets nobody stack more than sixteen
        own, other = tmp_path / f"own-{number}", tmp_path / f"own-{number - 1}"
        own.mkdir()
        other.mkdir(exist_ok=True)
        folder = os.open(own, os.O_RDONLY)
        seen: list[bool] = []

        def work(
            _: Listener, folder: int = folder, own: Path = own, other: Path = other, seen: list[bool] = seen
        ) -> Result:
            sandboxed.restrict(folder, folder, folder)
            seen.extend((tries_to_write(own / "file"), tries_to_write(other / "file 2")))
            return Result.SUCCESS

        sandboxed.run(work, print)
        os.close(folder)
        assert seen == [True, False]
    assert not missing


@needs_landlock
def test_what_is_told_behind_a_wall_is_heard_outside_in_order_and_not_one_by_one(missing: Missing) -> None:
    heard: list[tuple[Event, bool]] = []
    events = [*map(skipped, range(5000)), mounted(1), skipped(7), mounted(2), *map(skipped, range(3))]
    told_so_far: list[int] = []

    def emit(event: Event) -> None:
        heard.append((event, threading.current_thread() is threading.main_thread()))

    def work(tell: Listener) -> Result:
        for event in events:
            tell(event)
            told_so_far.append(len(heard))
        return Result.SUCCESS

    made("auto", missing).run(work, emit)

    assert [event for event, _ in heard] == events
    assert all(outside for _, outside in heard)
    # Bounded while entries come, and up to date as soon as it is about anything else.
    assert all(index + 1 - count <= 1000 for index, count in enumerate(told_so_far))
    assert told_so_far[5000] == 5001
    assert told_so_far[5001] == 5001
    assert told_so_far[5002] == 5003
    assert len(set(told_so_far)) < 10


@needs_landlock
def test_an_error_of_who_listens_meets_who_told(missing: Missing) -> None:
    met: list[str] = []

    def emit(event: Event) -> None:
        raise LookupError(event.name)

    def work(tell: Listener) -> Result:
        with pytest.raises(LookupError) as error:
            tell(RunDisabled(config="c", run_enabled="N"))
        met.append(str(error.value))
        return Result.SUCCESS

    assert made("auto", missing).run(work, emit) is Result.SUCCESS
    assert met == ["run_disabled"]


@needs_landlock
def test_an_error_of_the_work_is_raised_where_it_was_asked_for(missing: Missing) -> None:
    def work(_: Listener) -> Result:
        raise LookupError("in the work")

    with pytest.raises(LookupError, match="in the work"):
        made("auto", missing).run(work, print)


def test_where_it_is_off_the_work_is_done_as_if_there_were_no_wall(missing: Missing) -> None:
    sandboxed = made("off", missing)

    def work(_: Listener) -> Result:
        sandboxed.restrict(-1, -1, -1)
        assert threading.current_thread() is threading.main_thread()
        return Result.SUCCESS

    assert sandboxed.run(work, print) is Result.SUCCESS
    assert not missing


def test_without_a_kernel_that_can_the_work_is_done_and_told_or_refused(
    monkeypatch: pytest.MonkeyPatch, missing: Missing
) -> None:
    monkeypatch.setattr(sandbox, "why_unavailable", lambda: "there is none")
    auto, required = made("auto", missing), made("required", missing)

    def work(sandboxed: Sandbox) -> Result:
        sandboxed.restrict(-1, -1, -1)
        return Result.SUCCESS

    assert auto.run(lambda _: work(auto), print) is Result.SUCCESS
    assert missing == ["there is none"]
    with pytest.raises(Refused) as refused:
        required.run(lambda _: work(required), print)
    assert refused.value.reason == Refusal.SANDBOX_UNAVAILABLE
    assert "there is none" in refused.value.message
    assert refused.value.hint


@needs_landlock
def test_without_a_thread_the_work_is_done_and_told(monkeypatch: pytest.MonkeyPatch, missing: Missing) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)

    assert made("auto", missing).run(lambda _: Result.SUCCESS, print) is Result.SUCCESS
    assert missing == ["can't start new thread"]


@needs_landlock
def test_a_wall_that_fails_at_the_last_moment_is_told_or_refused(missing: Missing) -> None:
    auto, required = made("auto", missing), made("required", missing)
    pipe = os.pipe()

    def work(sandboxed: Sandbox) -> Result:
        sandboxed.restrict(*pipe, pipe[0])  # no rule can be made about a pipe
        return Result.SUCCESS

    assert auto.run(lambda _: work(auto), print) is Result.SUCCESS
    with pytest.raises(Refused):
        required.run(lambda _: work(required), print)
    for each in pipe:
        os.close(each)
    assert len(missing) == 1


LARGE_BOOK = """
import os, sys
from job.store.hardlink_table import HardLinkTable
from job.system.sandbox import Sandbox
from job.fs.private_folders import ScratchFolder
from job.core.entry import FileId
from job.core.outcome import Result
from job.core.record import LinkName
folder = os.open(sys.argv[1], os.O_RDONLY)
scratch = ScratchFolder(os.environ)
walled = Sandbox("required", scratch, print)
def work(_):
    walled.restrict(folder, folder, folder)
    book = HardLinkTable()
    names = ((FileId(1, n), b"a name of some length %d" % n) for n in range(60_000))
    book.add(LinkName(file, b"folder", 0, name, 1, None, None, True) for file, name in names)
    opened = {os.path.dirname(os.readlink(f"/proc/self/fd/{n}")) for n in os.listdir("/proc/self/fd")
              if os.path.lexists(f"/proc/self/fd/{n}") and "etilqs" in os.readlink(f"/proc/self/fd/{n}")}
    print(*opened)
    book.close()
    return Result.SUCCESS
walled.run(work, print)
scratch.close()
"""


def large_book(base: Path, **variables: str) -> str:
    """Have a book of hard links need more room than the memory that it may take; give the folder where that is."""
    (base / "state").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", LARGE_BOOK, str(base / "state")],
        env=os.environ | variables,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.removesuffix("\n")


@needs_landlock
def test_a_book_of_hard_links_that_does_not_fit_in_memory_has_room_behind_a_wall(tmp_path: Path) -> None:
    folder = large_book(tmp_path, TMPDIR=str(tmp_path))

    assert re.fullmatch(rf"{tmp_path}/truecopy-scratch-[0-9a-f]{{16}}", folder)
    assert [path.name for path in tmp_path.iterdir()] == ["state"], "it is removed at the end"


@needs_landlock
@pytest.mark.needs_root
def test_a_name_that_others_took_in_the_folder_for_temporary_files_is_not_in_the_way(tmp_path: Path) -> None:
    for name in (f"truecopy-{os.geteuid()}", "truecopy"):
        (tmp_path / name).mkdir()
        os.chown(tmp_path / name, 64003, 64003)

    assert large_book(tmp_path, TMPDIR=str(tmp_path)).startswith(f"{tmp_path}/truecopy-scratch-")


@needs_landlock
@pytest.mark.needs_root
@pytest.mark.needs_tool("unshare")
def test_where_no_folder_for_temporary_files_can_be_written_to_the_state_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    script = """
        for folder in /tmp /var/tmp; do
          mount --bind $folder $folder && mount -o remount,bind,ro $folder || exit 9
        done
        exec "$@"
    """
    # Where the test's own folder lies below /tmp it is read-only in there, but not for who has it open.
    with open_folder_of(tmp_path / "state") as state:
        done = subprocess.run(
            [
                "unshare",
                "--mount",
                "sh",
                "-c",
                script,
                "sh",
                sys.executable,
                "-c",
                LARGE_BOOK,
                f"/proc/self/fd/{state}",
            ],
            env=os.environ | {"TMPDIR": "/nonexistent"},
            pass_fds=(state,),
            check=False,
            capture_output=True,
            text=True,
        )

    assert done.returncode == 0, done.stderr
    assert done.stdout.removesuffix("\n").endswith("/state"), done.stdout


@contextmanager
def open_folder_of(path: Path) -> Iterator[int]:
    folder = os.open(path, os.O_RDONLY)
    try:
        yield folder
    finally:
        os.close(folder)


HANGS = """
import os, sys, time
from job.system.signals import StopSignal
from job.system.sandbox import Sandbox
from job.fs.private_folders import ScratchFolder
def work(_):
    print("hangs", flush=True)
    time.sleep(1000)
with StopSignal(monotonic=time.monotonic):
    try:
        Sandbox("required", ScratchFolder(os.environ), print).run(work, print)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""


@needs_landlock
def test_nobody_waits_for_work_that_hangs_after_a_second_ctrl_c() -> None:
    with subprocess.Popen([sys.executable, "-c", HANGS], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "hangs\n"
            deadline = time.monotonic() + 60
            while process.poll() is None and time.monotonic() < deadline:
                process.send_signal(signal.SIGINT)
                time.sleep(0.3)
            assert process.stdout.readline() == "interrupted\n"
            assert process.wait(60) == 130
        finally:
            process.kill()


def test_a_signal_that_does_not_wake_the_main_thread_is_handled_while_that_waits_for_its_turn() -> None:
    turn, handled, in_time = sandbox.Turn(), threading.Event(), list[bool]()
    before = signal.signal(signal.SIGUSR2, lambda *_: handled.set())

    def take_it() -> None:
        time.sleep(0.3)  # the main thread waits by now
        signal.pthread_kill(threading.get_ident(), signal.SIGUSR2)
        in_time.append(handled.wait(20))
        turn.hand_over()

    thread = threading.Thread(target=take_it)
    try:
        thread.start()
        turn.wait()
    finally:
        signal.signal(signal.SIGUSR2, before)
        thread.join()

    assert in_time == [True]
