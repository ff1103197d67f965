"""Open a pair for a dry run or a comparison: nothing is created or changed."""

import contextlib
from collections.abc import Callable, Iterator, Sequence

from job.app.pair_setup import in_scope, index_to_read, open_state, source_scanner, state_folder, unmounted
from job.config.settings import Config, Pair
from job.core.file_systems import (
    NO_MOUNTS,
    ByMount,
    Capabilities,
    FileSystemMatch,
    KnownMounts,
    MirrorCapabilities,
    NameRules,
    match_file_system,
)
from job.core.outcome import Refusal, reason_text
from job.engine.brake.stored import stored_hold
from job.engine.dry_run import Preview
from job.engine.tree_compare import CompareContext, VolumeTools
from job.engine.volumes import metadata_writer_for, policy_of
from job.errors import Refused
from job.fs import probe
from job.fs.copier import Copier
from job.fs.dircursor import DirCursor, closing_fd
from job.fs.metadata import MetadataWriter
from job.fs.mounts import FileSystem, file_systems
from job.fs.scanners import MirrorScanner, SourceScanner
from job.store import temp_journal
from job.store.hardlink_table import HardLinkTable
from job.store.index import Index


@contextlib.contextmanager
def open_preview(config: Config, pair: Pair, source: int, mirror: int) -> Iterator[Preview]:
    """Open all that a dry run needs; nothing is created or changed."""
    with contextlib.ExitStack() as tidy:
        state = _open_state_if_present(tidy, config, pair, mirror)
        index = Index.empty() if state is None else index_to_read(f"/proc/self/fd/{state}")
        tidy.enter_context(contextlib.closing(index))
        systems = in_scope(file_systems(mirror), pair, source, _known(mirror, state))
        index.ignore(mismatched_mounts(index, systems))
        able = _known_mirror_capabilities(systems, mirror, state)._replace(gone=unmounted(index, systems, mirror))
        scanner = _open_scanner(tidy, pair, source, able, state)
        mirror_scanner = tidy.enter_context(contextlib.closing(MirrorScanner(mirror)))
        yield Preview(
            pair=pair,
            source=scanner,
            source_root=source,
            mirror_scanner=mirror_scanner,
            mirror_root=mirror,
            index=index,
            hold=stored_hold(index, state),
            mirror=ByMount(able.root, dict(able.others), None if able.root.keeps_all_names else NameRules(able.root)),
            known_mounts=_known_mounts(state),
        )


def _known_mounts(state: int | None) -> KnownMounts:
    return NO_MOUNTS if state is None else temp_journal.load_known_mounts(state)


def _open_scanner(
    tidy: contextlib.ExitStack, pair: Pair, source: int, able: MirrorCapabilities, state: int | None
) -> SourceScanner:
    mounts = _known_mounts(state)
    return tidy.enter_context(contextlib.closing(source_scanner(pair, source, able, mounts)))


def _open_state_if_present(tidy: contextlib.ExitStack, config: Config, pair: Pair, mirror: int) -> int | None:
    try:
        return tidy.enter_context(closing_fd(open_state(config, pair, mirror)))
    except FileNotFoundError:
        return None
    except OSError as error:
        message = f"the state folder {state_folder(config, pair, None)} cannot be used: {reason_text(error)}"
        hint = "Look at what has its name; a cycle would be refused, too."
        raise Refused(Refusal.STATE_UNUSABLE, message, hint=hint) from None


def _known_mirror_capabilities(systems: Sequence[FileSystem], mirror: int, state: int | None) -> MirrorCapabilities:
    """Return the saved capabilities of the file systems of an open mirror; nothing is probed."""
    with contextlib.closing(DirCursor(mirror)) as cursor:
        others = tuple((each.point, _known(cursor.goto(each.point), state, each.point)) for each in systems[1:])
        return MirrorCapabilities(_known(mirror, state), others)


def _known(folder: int, state: int | None, point: bytes = b"") -> Capabilities:
    return (state is not None and probe.load_capabilities(folder, state, point, to_write=False)) or Capabilities()


def mismatched_mounts(index: Index, systems: Sequence[FileSystem]) -> list[bytes]:
    """Return the mount points whose file system differs from the one in the index."""
    known = index.file_systems
    here = {each.point for each in systems}
    others = [
        each.point
        for each in systems
        if match_file_system(known.get(each.point), each.identity) is FileSystemMatch.OTHER
    ]
    return others + [point for point in known if point not in here]


Notice = Callable[[int, int], None]
"""Called with the entries compared and the bytes read since the last call."""


@contextlib.contextmanager
def open_comparison(config: Config, pair: Pair, source: int, mirror: int, notice: Notice) -> Iterator[CompareContext]:
    """Open all that a comparison of a pair needs; nothing is created or changed."""
    with contextlib.ExitStack() as tidy:
        state = None
        with contextlib.suppress(OSError):  # no capabilities are known then
            state = tidy.enter_context(closing_fd(open_state(config, pair, mirror)))
        systems = in_scope(file_systems(mirror), pair, source, _known(mirror, state))
        able = _known_mirror_capabilities(systems, mirror, state)

        def tools_of(of: Capabilities) -> VolumeTools:
            metadata_writer = metadata_writer_for(pair, of)
            copier = _ReportingCopier(pair.checksum, metadata_writer, notice)
            return VolumeTools(
                of, copier, metadata_writer, policy_of(pair, of), None if of.keeps_all_names else NameRules(of)
            )

        root = tools_of(able.root)
        scanner = _open_scanner(tidy, pair, source, able, state)
        yield CompareContext(
            pair=pair,
            source=scanner,
            source_root=source,
            mirror_root=mirror,
            by=ByMount(root, {point: tools_of(of) for point, of in able.others}, root.name_rules),
            table=tidy.enter_context(contextlib.closing(HardLinkTable())),
            notice=notice,
        )


class _ReportingCopier(Copier):
    """Reports the size of every chunk read from a source and its mirror."""

    def __init__(self, algorithm: str, metadata_writer: MetadataWriter, notice: Notice) -> None:
        super().__init__(algorithm, metadata_writer, on_chunk=lambda _: None, sync_each=False)
        self._notice = notice

    def _take_beside(self, chunk: memoryview | bytes) -> None:
        super()._take_beside(chunk)
        self._notice(0, len(chunk))

    def _skip_beside(self, count: int) -> None:
        super()._skip_beside(count)
        self._notice(0, count)
