"""What is remembered of pairs and mirrors outside of the mirrors, so that a missing or another one is noticed.

In `state_dir/.pairs` or `$XDG_STATE_HOME/truecopy/pairs` there is one private folder for each path of a mirror, named
by its hash. `known.json` in it has the ids of the mirrors that were adopted there; cycles that cannot be recorded in
the mirror are kept there, too. A file for each mirror, named by its id, has how the last cycle left it. They lie in a
folder that a source leaves out: in a home folder that is backed up, no cycle would be the last one otherwise.
"""

import errno
import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any, NamedTuple

from job.config.settings import Config, Pair
from job.core.entry import STATE_FOLDER
from job.core.file_systems import FileSystemId
from job.core.mirror_identity import CycleMark, MirrorPlace
from job.core.stored_values import UNUSABLE, number_of, seconds_of, text_of
from job.fs.dircursor import closing_fd
from job.fs.large_dir import name_exists
from job.fs.mounts import is_below, is_in_container, is_on_container_layer, resolve_path
from job.fs.own_files import open_own_file, open_own_folder, replace_file
from job.fs.private_folders import state_home
from job.fs.trusted_path import make_folders, open_trusted_place
from job.store.pair_records import ResolvedPath, checked_id

_IN_STATE_DIR = ".pairs"
"""No pair can have this name."""
_KNOWN = b"known.json"
_MIRRORS = STATE_FOLDER.decode("ascii")
_README = b"README.txt"
_README_TEXT = b"""\
This folder belongs to Truecopy, which remembers here how it left each mirror. Another disk in the place of a mirror is
noticed by it, and so is a mirror that is missing or older. Nothing here is safe to edit.
"""
_FORMAT = 2
_MOST_BYTES = 64 << 10
_UNAVAILABLE = {errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.ELOOP}
_SUCCESS_SECONDS = 3600.0
"""A cycle that wrote nothing renews the time of the last success no more often: that costs a sync."""


class MirrorMemory(NamedTuple):
    """What is remembered of one mirror."""

    mirror_id: str
    source: ResolvedPath
    adopted: str
    """RFC 3339, UTC."""
    path: str
    """Where it was used last."""
    place: MirrorPlace
    """Where its root was then."""
    cycle: CycleMark | None = None
    """The last cycle that wrote; None before the mirror had a mark."""
    last_success: float = 0.0
    """In seconds since the epoch, to the hour; 0 for never."""

    def expect(self, found: CycleMark) -> "MirrorMemory":
        """Return the memory of a mirror with this mark, and with a new one for the next cycle that writes."""
        return self._replace(cycle=found._replace(upcoming=os.urandom(16).hex()))


class PairMemory(NamedTuple):
    """What is remembered of the mirrors at one path."""

    since: str
    """When the first mirror was adopted, RFC 3339 in UTC; empty if the file is damaged."""
    ids: tuple[str, ...] = ()
    """The adopted mirrors, the one seen last at the end; empty if the file is damaged or of format 1."""


class Memory:
    """The memory of one process."""

    def __init__(
        self,
        base: str | None = None,
        why_none: str = "no place for it was given",
        sources: Sequence[str] = (),
        mirrors: Sequence[str] = (),
        awake: Sequence[str] = (),
        *,
        beside_state: bool = False,
    ) -> None:
        """Keep it in the folder `base`; `why_none` says why there is none.

        `sources` and `mirrors` are all configured ones, for `make_folders`, `awake` are the mirrors that may be read at
        any time. `beside_state` tells that the folder is in `state_dir`, which must not be in a source or mirror.
        """
        self.base, self.why_none = base, why_none
        self.sources, self.mirrors, self.awake = sources, mirrors, awake
        self.beside_state = beside_state
        self._reported = False

    @classmethod
    def of(cls, config: Config, environ: Mapping[str, str]) -> "Memory":
        """Choose the folder. Nothing is read or created."""
        pairs = config.effective_pairs
        places = [pair.source for pair in pairs], [pair.dest for pair in pairs]
        awake = [pair.dest for pair in pairs if pair.mirror_check == "awake"]
        if config.state_dir is not None:
            return cls(os.path.join(config.state_dir, _IN_STATE_DIR), "", *places, awake, beside_state=True)
        base, why = state_home(environ)
        return cls(base and os.path.join(base, "truecopy", "pairs"), why, *places, awake)

    def updated_to(self, other: "Memory") -> "Memory":
        """Return the memory for a new config; a reported problem is not reported again for the same folder."""
        if self.base == other.base:
            self.sources, self.mirrors, self.awake = other.sources, other.mirrors, other.awake
            self.why_none = other.why_none
            return self
        return other

    def pair(self, path: str) -> PairMemory | None:
        """Return what is remembered of the mirrors at a path; None if nothing is, or it cannot be reached."""
        return self.seen_at(path)[0]

    def seen_at(self, path: str) -> tuple[PairMemory | None, list[MirrorMemory]]:
        """Return what is remembered of the mirrors at a path, as `pair` does, and of each of them.

        The one seen last is at the end; those whose file is damaged are left out.
        """
        try:
            with self._opened() as base:
                known = _read_pairs(base, path)
                return known, _read_mirrors(base, known.ids) if known else []
        except FileNotFoundError:
            return None, []
        except OSError as error:
            # An inaccessible home folder counts as none; an I/O error does not.
            return None if error.errno in _UNAVAILABLE else PairMemory(""), []

    def mirror(self, mirror_id: str) -> MirrorMemory | None:
        """Return what is remembered of a mirror; None if nothing is, or it is damaged or cannot be reached."""
        try:
            with self._folder(_MIRRORS) as folder:
                found = read_mirror(folder, mirror_id)
        except (OSError, *UNUSABLE):
            return None
        return found if found.mirror_id == mirror_id else None

    def mirrors_of(self, pair: Pair) -> list[MirrorMemory]:
        """Return what is remembered of each mirror of a source at its path, the one seen last at the end."""
        source = ResolvedPath.of(pair.source)
        return [each for each in self.seen_at(pair.dest)[1] if each.source.matches(source)]

    def last_success(self, pair: Pair) -> float:
        """Return the newest success of the mirrors of a pair, in seconds since the epoch; 0 for never."""
        return max((each.last_success for each in self.mirrors_of(pair)), default=0.0)

    def remember(self, pair: Pair, mirror: MirrorMemory) -> None:
        """Remember a mirror as the one that was seen last at the path of the pair. Raises `OSError`."""
        known = self.pair(pair.dest)
        if self.mirror(mirror.mirror_id) != mirror:
            self.update(mirror)
        elif known is not None and known.ids[-1:] == (mirror.mirror_id,):
            return
        ids = (*(each for each in (known.ids if known else ()) if each != mirror.mirror_id), mirror.mirror_id)
        since = (known.since if known else "") or mirror.adopted
        for key in _keys(pair.dest):
            with self._folder(key, make=True) as folder:
                with suppress(FileNotFoundError):
                    if read_pair(folder).ids == ids:
                        continue
                content = {
                    "format": _FORMAT,
                    "mirror": os.path.abspath(pair.dest),
                    "source": os.path.abspath(pair.source),
                    "pair": pair.name,
                    "since": since,
                    "mirrors": ids,
                }
                _write(folder, _KNOWN, content)

    def try_remember(self, pair: Pair, mirror: MirrorMemory) -> str:
        """Call `remember`; return why that fails, once in this process, otherwise an empty text."""
        try:
            self.remember(pair, mirror)
        except OSError as error:
            if not self._reported:
                self._reported = True
                return error.strerror or str(error)
        return ""

    def is_lost_with_container(self) -> bool:
        """Return whether it lies in a container itself, not on a volume or a folder of the host."""
        place = self.base if is_in_container() else None
        while place is not None:
            try:
                with closing_fd(open_trusted_place(place)) as folder:
                    return is_on_container_layer(folder)
            except FileNotFoundError:
                place = os.path.dirname(place)
            except OSError:
                break
        return False

    def update(self, mirror: MirrorMemory) -> None:
        """Replace what is remembered of one mirror. Raises `OSError`."""
        content: dict[str, object] = {
            "format": _FORMAT,
            "mirror_id": mirror.mirror_id,
            "source": mirror.source.written,
            "source_resolved": mirror.source.resolved,
            "adopted": mirror.adopted,
            "path": mirror.path,
            "file_system": mirror.place.file_system,
            "root": mirror.place.folder,
            "location": mirror.place.location,
            "cycle": mirror.cycle,
            "last_success": mirror.last_success,
        }
        with self._folder(_MIRRORS, make=True) as folder:
            if not name_exists(folder, _README):
                replace_file(folder, _README, _README_TEXT)
            _write(folder, _file_of(mirror.mirror_id), content)

    def end_cycle(self, mirror_id: str, mark: CycleMark | None, success: float | None) -> None:
        """Remember the mark that a mirror has now, None if it was not read, and the time of a success, None for none.

        If that fails, the mark is still the expected one, and only the time is less exact.
        """
        with suppress(OSError, *UNUSABLE), self._folder(_MIRRORS) as folder:
            self._end_cycle(folder, mirror_id, mark, success)

    def _end_cycle(self, folder: int, mirror_id: str, mark: CycleMark | None, success: float | None) -> None:
        known = read_mirror(folder, mirror_id)
        # Another instance may have worked on the mirror since the lock was released.
        is_marked = mark is not None and (known.cycle is None or known.cycle.upcoming == mark.mark)
        if mark is not None and is_marked:
            known = known.expect(mark)
        is_news = success is not None and (is_marked or abs(success - known.last_success) >= _SUCCESS_SECONDS)
        if success is not None and is_news:
            known = known._replace(last_success=success)
        if is_marked or is_news:
            self.update(known)
        else:
            os.utime(_file_of(mirror_id), dir_fd=folder)  # not synced: see `last_cycle_ns`

    def forget(self, mirror_id: str) -> None:
        """Forget a mirror that is gone; its id stays with its pair, as its cycles were counted. Raises nothing."""
        with suppress(OSError), self._folder(_MIRRORS) as folder:
            os.unlink(_file_of(mirror_id), dir_fd=folder)

    def last_cycle_ns(self, mirror_id: str) -> int:
        """Return the end of the last cycle on a mirror: the time of its file. Raises `OSError`."""
        with self._folder(_MIRRORS) as folder:
            return os.stat(_file_of(mirror_id), dir_fd=folder, follow_symlinks=False).st_mtime_ns

    def open_history(self, path: str, *, make: bool) -> int:
        """Open the folder for the history of a pair whose state folder cannot be reached or written.

        Raises `OSError`; `FileNotFoundError` if it does not exist and `make` is False.
        """
        with self._folder(_keys(path)[0], make=make) as folder:
            return os.dup(folder)

    @contextmanager
    def _opened(self, *, make: bool = False) -> Iterator[int]:
        if self.base is None:
            raise PermissionError(errno.EACCES, self.why_none)
        if make and self.beside_state and any(is_below(self.base, root) for root in (*self.sources, *self.mirrors)):
            raise PermissionError(errno.EACCES, "state_dir lies in a source or mirror")
        base = make_folders(self.base, self.sources, self.mirrors) if make else open_trusted_place(self.base)
        with closing_fd(base):
            yield base

    @contextmanager
    def _folder(self, key: str, *, make: bool = False) -> Iterator[int]:
        with self._opened(make=make) as base:
            if make:
                with suppress(FileExistsError):
                    os.mkdir(key, 0o700, dir_fd=base)
            with _below(base, key) as folder:
                yield folder


def _below(base: int, key: str) -> AbstractContextManager[int]:
    return closing_fd(open_own_folder(key.encode("ascii"), base))


def _read_pairs(base: int, path: str) -> PairMemory | None:
    found = []
    for key in _keys(path):
        try:
            with _below(base, key) as folder:
                found.append(read_pair(folder))
        except FileNotFoundError:
            continue
        except OSError as error:
            if error.errno not in _UNAVAILABLE:
                found.append(PairMemory(""))
    if not found:
        return None
    # The path may have been written in several ways, each with a file of its own.
    ids = dict.fromkeys(each for memory in found for each in memory.ids)
    return max(found, key=lambda memory: bool(memory.since))._replace(ids=tuple(ids))


def _read_mirrors(base: int, ids: Sequence[str]) -> list[MirrorMemory]:
    found = []
    with suppress(OSError), _below(base, _MIRRORS) as folder:
        for each in ids:
            with suppress(OSError, *UNUSABLE):
                found.append((each, read_mirror(folder, each)))
    return [mirror for mirror_id, mirror in found if mirror.mirror_id == mirror_id]


def _keys(path: str) -> list[str]:
    """Return the folder names of a mirror: for its path as written, and with the links in its parents resolved."""
    written = os.path.abspath(path)
    real = os.path.join(resolve_path(os.path.dirname(written)), os.path.basename(written))
    return [hashlib.sha256(os.fsencode(each)).hexdigest()[:32] for each in dict.fromkeys((written, real))]


def _write(folder: int, name: bytes, content: Mapping[str, object]) -> None:
    replace_file(folder, name, json.dumps(content, indent=2).encode("ascii") + b"\n", synced=True)


def read_pair(folder: int) -> PairMemory:
    """Read `known.json` in an open folder; an empty memory if it is damaged. Raises `FileNotFoundError`."""
    try:
        found = _read(folder, _KNOWN)
        ids = tuple(checked_id(text_of(each)) for each in found["mirrors"]) if "mirrors" in found else ()
        return PairMemory(text_of(found["since"]), ids)
    except FileNotFoundError:
        raise
    except (OSError, *UNUSABLE):
        return PairMemory("")


def _file_of(mirror_id: str) -> bytes:
    return f"{mirror_id}.json".encode("ascii")


def read_mirror(folder: int, mirror_id: str) -> MirrorMemory:
    """Read the file of a mirror in an open folder. Raises `OSError` and, if it is damaged, one of `UNUSABLE`."""
    found = _read(folder, _file_of(mirror_id))
    proof, attached = map(text_of, found["file_system"])
    device, inode, generation = found["root"]
    cycle = None
    if found["cycle"] is not None:
        number, mark, upcoming = found["cycle"]
        cycle = CycleMark(number_of(number), text_of(mark), text_of(upcoming))
    return MirrorMemory(
        checked_id(text_of(found["mirror_id"])),
        ResolvedPath(text_of(found["source"]), text_of(found["source_resolved"])),
        text_of(found["adopted"]),
        text_of(found["path"]),
        MirrorPlace(
            FileSystemId(proof, attached),
            number_of(device),
            number_of(inode),
            text_of(generation),
            text_of(found["location"]),
        ),
        cycle,
        seconds_of(found["last_success"]),
    )


def _read(folder: int, name: bytes) -> Any:  # any JSON value
    with closing_fd(open_own_file(name, folder, os.O_RDONLY)) as descriptor:
        return json.loads(os.read(descriptor, _MOST_BYTES))


def now_text() -> str:
    """Return the present time, RFC 3339 in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
