"""Lay out the bench of a pair: the adapters that the tasks work with."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from job.adapters.history import Failed, History
from job.adapters.index import Index
from job.adapters.scanner import MirrorWatch
from job.app.tools import index_to_read, set_up, source_scanner
from job.core.capabilities import Capabilities
from job.core.config.effective import Config, Pair
from job.core.entry import STATE_FOLDER
from job.core.events import IndexRebuilt, Listener, MirrorProbed
from job.core.outcome import Refusal
from job.errors import IndexUnusable, Refused
from job.files import index_file, probe
from job.files.identity_file import DamagedIdentityError, Paths
from job.files.index_file import IndexTorn, set_aside
from job.files.pair_records import PairRecords
from job.files.private import open_ours
from job.files.state_place import state_place
from job.files.trusted_path import open_trusted_parent
from job.tasks.bench import Assignment, Bench, Crew
from job.tasks.gate import Roots
from job.tasks.meter import Meter
from job.tasks.preview import Preview


@contextlib.contextmanager
def lay_out(work: Assignment, roots: Roots, meter: Meter) -> Iterator[Bench]:
    """Make everything that the work on one pair needs; gone when the pair is done."""

    def recruit() -> Crew:
        from job.app.worker import crew  # noqa: PLC0415  # only a large job pays for multiprocessing

        return crew(work, roots, able)

    with contextlib.ExitStack() as tidy:
        # What the mirror can hold is found out after the index was made: where it is known, there was one.
        known = probe.known(roots.mirror, roots.state)
        memory = tidy.enter_context(_open_index(work, f"/proc/self/fd/{roots.state}", there_was_one=known is not None))
        able = known or _probed(work, roots)
        bench = tidy.enter_context(set_up(work, roots, memory, meter, able))
        yield replace(bench, recruit=recruit)


def _probed(work: Assignment, roots: Roots) -> Capabilities:
    """Find out what the mirror can hold."""
    able = None
    try:
        able = probe.probe(roots.mirror)
        probe.remember(able, roots.mirror, roots.state)
    except OSError:
        # A full disk, perhaps, which the copies will meet, too: tried again by the next cycle.
        return able or Capabilities()
    pair = work.pair.name
    lacks = tuple(able.lacks)
    work.emit(MirrorProbed(cycle_id=work.cycle_id, pair=pair, file_system=able.file_system, lacks=lacks))
    return able


@contextlib.contextmanager
def _open_index(work: Assignment, folder: str, *, there_was_one: bool) -> Iterator[Index]:
    if there_was_one and not index_file.holds_anything(folder):
        reason = f"{index_file.FILE_NAME} is gone or empty"
        work.emit(IndexRebuilt(cycle_id=work.cycle_id, pair=work.pair.name, reason=reason))
    try:
        index = Index.open(folder)
    except IndexTorn as error:
        # What is lost is only time: every content is compared again instead of being believed (invariant 13).
        set_aside(folder)
        work.emit(IndexRebuilt(cycle_id=work.cycle_id, pair=work.pair.name, reason=error.message))
        index = Index.open(folder)
    except IndexUnusable as error:
        raise Refused(Refusal.STATE_UNUSABLE, error.message, hint=error.hint) from None
    with contextlib.closing(index):
        yield index
    if index.torn:
        set_aside(folder)
        work.emit(IndexRebuilt(cycle_id=work.cycle_id, pair=work.pair.name, reason=index.torn))


@contextlib.contextmanager
def lay_out_preview(config: Config, pair: Pair, source: int, mirror: int) -> Iterator[Preview]:
    """Make what a dry run needs; nothing is created or changed."""
    with contextlib.ExitStack() as tidy:
        state = _state_to_read(tidy, config, pair, mirror)
        index = Index.empty() if state is None else index_to_read(f"/proc/self/fd/{state}")
        tidy.callback(index.close)
        able = (state is not None and probe.known(mirror, state)) or Capabilities()
        scanner = source_scanner(pair, source, able)
        tidy.callback(scanner.close)
        watch = MirrorWatch(mirror)
        tidy.callback(watch.close)
        yield Preview(pair=pair, source=scanner, watch=watch, mirror_root=mirror, memory=index, mirror=able)


def _state_to_read(tidy: contextlib.ExitStack, config: Config, pair: Pair, mirror: int) -> int | None:
    try:
        state = open_state(config, pair, mirror)
    except FileNotFoundError:
        return None
    except OSError as error:
        message = f"the state folder {state_folder(config, pair)} cannot be used: {error.strerror}"
        hint = "Look at what has its name; a cycle would be refused, too."
        raise Refused(Refusal.STATE_UNUSABLE, message, hint=hint) from None
    tidy.callback(os.close, state)
    return state


def open_state(config: Config, pair: Pair, mirror: int) -> int:
    """Open the folder of a pair's state, which may lie in its open mirror, as it is. Raises `OSError`."""
    if config.state_dir is None:
        return open_ours(STATE_FOLDER, mirror)
    above, name = open_trusted_parent(state_folder(config, pair))
    try:
        return open_ours(name, above)
    finally:
        os.close(above)


def known_capabilities(config: Config, pair: Pair, mirror: int) -> Capabilities | None:
    """Give what was found out of an open mirror; None if nothing was, or it cannot be read."""
    try:
        folder = open_state(config, pair, mirror)
    except OSError:
        return None
    try:
        return probe.known(mirror, folder)
    finally:
        os.close(folder)


def state_folder(config: Config, pair: Pair) -> str:
    """Name the folder of a pair's state, as it is now."""
    if config.state_dir is None:
        return os.path.join(pair.dest, STATE_FOLDER.decode("ascii"))
    try:
        name = state_place(config.state_dir, pair).name
    except (OSError, DamagedIdentityError):
        name = pair.name  # the gate refuses it
    return os.path.join(config.state_dir, name)


def history_of(
    config: Config, pair: Pair, records: PairRecords, *, failed: Failed, emit: Listener | None = None
) -> History:
    """Give the history of a pair, which is in its state folder and, while that cannot be reached, in the records."""
    return History(
        state_folder(config, pair),
        failed=failed,
        source=Paths.of(pair.source),
        spare=partial(records.open_history, pair.dest),
        emit=emit,
    )
