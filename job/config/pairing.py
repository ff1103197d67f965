"""Names and places of pairs, as text: default names, overlapping folders, Windows paths. Pure; no folder is looked at.

What only the disk can tell (links, bind mounts, other spellings of one folder) is the gate's work in every cycle.
"""

import posixpath
import re
import unicodedata
from collections.abc import Sequence

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
"""What a pair's name may be: it is a label value, and a folder's name below `state_dir`."""

_NAME_LENGTH = 64
_WINDOWS = re.compile(r"[A-Za-z]:[\\/].*|[A-Za-z]:|\\\\.*", re.DOTALL)


def unique_names(given: Sequence[str | None], sources: Sequence[str]) -> tuple[str, ...]:
    """Name every pair: as given, or after the last folder of its source, with `-2`, `-3`... where that is taken.

    A default never takes a name that was given to another pair. Letter case does not tell names apart, since a
    `state_dir` may lie on a file system that ignores it.
    """
    taken = {name.casefold() for name in given if name is not None}
    names = []
    for name, source in zip(given, sources, strict=True):
        chosen = name if name is not None else _first_free(default_name(source), taken)
        taken.add(chosen.casefold())
        names.append(chosen)
    return tuple(names)


def default_name(source: str) -> str:
    """Turn the last folder of `source` into a name that fits `NAME_PATTERN`; `pair` if nothing of it does."""
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
    r"""Tell whether `path` is one of Windows: `C:\Users`, `C:/Users`, `C:`, `\\server\share`."""
    return bool(_WINDOWS.fullmatch(path))


def is_shorthand(path: str) -> bool:
    """Tell whether a shell would write another path for `path`: `~` or `~/logs`."""
    return path == "~" or path.startswith("~/")


def is_elsewhere(path: str) -> bool:
    """Tell whether `path` means something on another machine, or in a shell, but nothing here."""
    return is_windows_path(path) or is_shorthand(path)


def relation(one: str, other: str) -> str:
    """Say how the folder `one` lies to `other` by their text: `same`, `inside`, `around`, or empty for apart."""
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
