"""Conflicts between keys of a configuration, and the names and paths of pairs as text. Pure.

The raw mapping is checked, in which keys may be missing or of a wrong type, so that conflicts are reported together
with the faults of single keys. Values of a wrong type are skipped here. No folder is examined: links, bind mounts and
other names of a folder are the preflight's work in each cycle.
"""

import posixpath
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
"""Valid names of pairs, which are label values and folder names below `state_dir`."""

_NAME_LENGTH = 64
_WINDOWS = re.compile(r"[A-Za-z]:[\\/].*|[A-Za-z]:|\\\\.*", re.DOTALL)


def unique_names(given: Sequence[str | None], sources: Sequence[str]) -> tuple[str, ...]:
    """Return the name of each pair: as given, or the last folder of its source, with `-2`, `-3`... if that is taken.

    Given names have priority. Names that differ in case only are equal, as the disk of `state_dir` may ignore case.
    """
    taken = {name.casefold() for name in given if name is not None}
    names = []
    for name, source in zip(given, sources, strict=True):
        chosen = name if name is not None else _first_free(default_name(source), taken)
        taken.add(chosen.casefold())
        names.append(chosen)
    return tuple(names)


def default_name(source: str) -> str:
    """Return the last folder of `source` as a name that matches `NAME_PATTERN`; `pair` if nothing remains."""
    last = posixpath.normpath(source.replace("\\", "/")).rpartition("/")[2]
    plain = unicodedata.normalize("NFKD", last).encode("ascii", "ignore").decode("ascii").lower()
    return re.sub(r"[^a-z0-9._-]+", "-", plain).strip("._-")[:_NAME_LENGTH] or "pair"


def _first_free(wanted: str, taken: set[str]) -> str:
    name, number = wanted, 1
    while name in taken:
        number += 1
        ending = f"-{number}"
        name = wanted[: _NAME_LENGTH - len(ending)] + ending
    return name


def is_windows_path(path: str) -> bool:
    r"""Return whether `path` is a Windows path: `C:\Users`, `C:/Users`, `C:`, `\\server\share`."""
    return bool(_WINDOWS.fullmatch(path))


def is_shorthand(path: str) -> bool:
    """Return whether a shell would expand `path`: `~` or `~/logs`."""
    return path == "~" or path.startswith("~/")


def is_elsewhere(path: str) -> bool:
    """Return whether `path` is valid only on Windows or in a shell."""
    return is_windows_path(path) or is_shorthand(path)


def relation(one: str, other: str) -> str:
    """Return the relation of folder `one` to `other`, by text: `same`, `inside`, `around`, or empty."""
    first, second = _normal(one), _normal(other)
    if first == second:
        return "same"
    if _within(first, second):
        return "inside"
    return "around" if _within(second, first) else ""


def _normal(path: str) -> str:
    normal = posixpath.normpath(path)
    # POSIX lets exactly two leading slashes mean something else; on Linux they never do.
    return normal[1:] if normal.startswith("//") else normal


def _within(inner: str, outer: str) -> bool:
    if inner.startswith("..") and outer == ".":
        return False
    if outer == ".":
        return not inner.startswith("/")
    return inner.startswith(outer if outer == "/" else outer + "/")


KeyPath = tuple[str | int, ...]

_RELATIONS = {"same": "the same folder as", "inside": "inside", "around": "a folder around"}
"""The words for each relation of two folders."""
_NOT_HERE = "is a Windows path, but Truecopy runs on Linux"
_WHOLE_PATH = "~ is not expanded here; write the whole path"


class Conflict(NamedTuple):
    """A conflict between keys, reported at `place` with its `value`."""

    place: KeyPath
    value: Any
    message: str


class _PairPaths(NamedTuple):
    """The two folders of a pair as written, with the keys they were written under."""

    source_place: KeyPath
    source: str | None
    dest_place: KeyPath
    dest: str | None


def conflicts(raw: Mapping[str, Any]) -> Iterator[Conflict]:
    """Yield all conflicts between keys of `raw`, in the order of the file."""
    pairs = list(_pair_paths(raw))
    yield from _both_pair_forms(raw)
    yield from _names(raw)
    yield from _overlaps(pairs)
    yield from _unreachable(raw, pairs)
    yield from _misplaced_outputs(raw, pairs)
    yield from _asleep_without_state_dir(raw)
    yield from _incomplete_login(_table(raw.get("metrics")))


def _pair_paths(raw: Mapping[str, Any]) -> Iterator[_PairPaths]:
    sources, dests = _list(raw, "source_dirs") or [], _list(raw, "dest_dirs") or []
    for number in range(max(len(sources), len(dests))):
        source = _text(sources[number]) if number < len(sources) else None
        dest = _text(dests[number]) if number < len(dests) else None
        yield _PairPaths(("source_dirs", number), source, ("dest_dirs", number), dest)
    for number, item in enumerate(_list(raw, "pairs") or []):
        pair, place = _table(item), ("pairs", number)
        yield _PairPaths((*place, "source"), _text(pair.get("source")), (*place, "dest"), _text(pair.get("dest")))


def _both_pair_forms(raw: Mapping[str, Any]) -> Iterator[Conflict]:
    sources, dests, pairs = (_list(raw, key) for key in ("source_dirs", "dest_dirs", "pairs"))
    if sources is not None and dests is not None and len(sources) != len(dests):
        message = (
            f"source_dirs has {len(sources)} and dest_dirs has {len(dests)}; "
            "the n-th source goes to the n-th dest, so write as many of the one as of the other"
        )
        yield Conflict(("dest_dirs",), dests, message)
    if pairs and (sources or dests):
        message = "pairs and source_dirs with dest_dirs are both given; keep one of the two ways to name folders"
        yield Conflict(("pairs",), pairs, message)
    if _runs(raw) and [sources, dests, pairs] == [[], [], []]:
        message = "nothing to back up; write source_dirs and dest_dirs, or pairs"
        yield Conflict(("source_dirs",), sources, message)


def _names(raw: Mapping[str, Any]) -> Iterator[Conflict]:
    first: dict[str, int] = {}
    for number, item in enumerate(_list(raw, "pairs") or []):
        name = _text(_table(item).get("name"))
        if name is None:
            continue
        if name.casefold() in first:
            message = f"pairs[{first[name.casefold()]}] has this name already; write another"
            yield Conflict(("pairs", number, "name"), name, message)
        first.setdefault(name.casefold(), number)


def _overlap(folder: str | None, other: str | None) -> str:
    """Return how a folder overlaps with another, in words; empty if it does not, or one is missing or elsewhere."""
    if not folder or not other or is_windows_path(folder) or is_windows_path(other):
        return ""
    return _RELATIONS.get(relation(folder, other), "")


def _overlaps(pairs: Sequence[_PairPaths]) -> Iterator[Conflict]:
    for pair in pairs:
        if words := _overlap(pair.dest, pair.source):
            message = f"{words} its source {pair.source}; write a folder that lies apart from it"
            yield Conflict(pair.dest_place, pair.dest, message)
    for one, other in combinations(pairs, 2):
        if words := _overlap(other.dest, one.dest):
            message = f"{words} {spell(one.dest_place)} ({one.dest}); give every pair a mirror of its own"
            yield Conflict(other.dest_place, other.dest, message)


def _unreachable(raw: Mapping[str, Any], pairs: Sequence[_PairPaths]) -> Iterator[Conflict]:
    # A disabled run uses no folder, so the original's sample, which is disabled, may have Windows paths.
    if not _runs(raw):
        return
    yield from _unmounted([(pair.source_place, pair.source) for pair in pairs if pair.source], "/source", ":ro")
    yield from _unmounted([(pair.dest_place, pair.dest) for pair in pairs if pair.dest], "/backup", "")
    files = [((key,), _text(raw.get(key))) for key in ("log_file", "error_log_file", "state_dir")]
    for place, path in [*files, (("metrics", "textfile"), _text(_table(raw.get("metrics")).get("textfile")))]:
        if path and is_windows_path(path):
            advice = "mount its folder into the container and write the path it has there"
            yield Conflict(place, path, f"{path} {_NOT_HERE}: {advice}")
        elif path and is_shorthand(path):
            yield Conflict(place, path, _WHOLE_PATH)


def _unmounted(folders: Sequence[tuple[KeyPath, str]], inside: str, ending: str) -> Iterator[Conflict]:
    # Numbered if two have the same last folder, so that the advice gives as many mounts as folders.
    names = unique_names([None] * len(folders), [path.replace(":", "") for _, path in folders])
    for (place, path), name in zip(folders, names, strict=True):
        if is_windows_path(path):
            inner = f"{inside}/{name}"
            advice = f'mount that folder into the container, for example `-v "{path}:{inner}{ending}"`'
            yield Conflict(place, path, f"{path} {_NOT_HERE}: {advice}, and write {inner} here")
        elif is_shorthand(path):
            yield Conflict(place, path, _WHOLE_PATH)


def _misplaced_outputs(raw: Mapping[str, Any], pairs: Sequence[_PairPaths]) -> Iterator[Conflict]:
    outputs: list[tuple[KeyPath, str]] = []
    for key in ("log_file", "error_log_file"):
        if path := _text(raw.get(key)):
            outputs.append(((key,), path))
            if what := _STREAMS.get(_stream_of(path)):
                yield Conflict((key,), path, f"{what}; leave {key} out")
    if path := _text(_table(raw.get("metrics")).get("textfile")):
        outputs.append((("metrics", "textfile"), path))
    roots = [(noun, end) for pair in pairs for noun, end in (("source", pair.source), ("mirror", pair.dest)) if end]
    for place, path in outputs:
        inside = [(noun, root) for noun, root in roots if _contains(root, path)]
        for noun, root in inside[:1]:
            yield Conflict(place, path, misplaced(noun, root))


def misplaced(noun: str, root: str) -> str:
    """Return why an output must not be in a `source` or `mirror`, and the next step."""
    in_source = "where every cycle would find it changed and copy it"
    why = in_source if noun == "source" else "which holds nothing but copies of its source"
    return f"lies in the {noun} {root}, {why}; write a path outside of every source and mirror"


def _contains(root: str, path: str) -> bool:
    return not (is_windows_path(root) or is_windows_path(path)) and relation(path, root) in {"same", "inside"}


_STREAMS = {
    "null": "keeps nothing",
    "0": "is standard input, which is not written to",
    "1": "is standard output, which gets every line anyway",
    "2": "is standard error; standard output gets every line anyway",
}


def _stream_of(path: str) -> str:
    """Return the number of the standard stream of a path, or `null`; empty for other paths."""
    normal = re.sub(r"^(/dev|/proc/self|/proc/thread-self|/proc/1)/fd/", "/dev/", posixpath.normpath(path))
    if not normal.startswith("/dev/"):
        return ""
    name = normal.removeprefix("/dev/")
    return {"stdin": "0", "stdout": "1", "stderr": "2"}.get(name, name)


def _asleep_without_state_dir(raw: Mapping[str, Any]) -> Iterator[Conflict]:
    if raw.get("state_dir") is not None:
        return
    message = "needs state_dir, since without it the index lies in the mirror and wakes it; set state_dir too"
    if raw.get("mirror_check") == "asleep":
        yield Conflict(("mirror_check",), "asleep", message)
    for number, item in enumerate(_list(raw, "pairs") or []):
        if _table(item).get("mirror_check") == "asleep":
            yield Conflict(("pairs", number, "mirror_check"), "asleep", message)


def _incomplete_login(metrics: Mapping[str, Any]) -> Iterator[Conflict]:
    user, password = (metrics.get(f"pushgateway_{key}") is not None for key in ("username", "password"))
    if user and not password:
        message = "a user without a password; set metrics.pushgateway_password too"
        yield Conflict(("metrics", "pushgateway_username"), metrics.get("pushgateway_username"), message)
    if password and not user:
        message = "a password without a user; set metrics.pushgateway_username too"
        yield Conflict(("metrics", "pushgateway_password"), metrics.get("pushgateway_password"), message)


def spell(place: KeyPath) -> str:
    """Format a key path as `pairs[1].dest`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)
    return text.removeprefix(".")


def _runs(raw: Mapping[str, Any]) -> bool:
    return bool(raw.get("run_enabled", "Y") == "Y")


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _list(raw: Mapping[str, Any], key: str) -> list[Any] | None:
    """Return the list at `key`: empty if the key is missing, None if it is not a list."""
    value = raw.get(key, ())
    return list(value) if isinstance(value, list | tuple) else None


def _table(value: object) -> Mapping[str, Any]:
    if isinstance(value, Mapping):
        return value
    # Code can pass sections that are already models.
    return vars(value) if hasattr(value, "__pydantic_fields__") else {}
