"""The paths that `restore`, `versions` and `explain` take, and times of contents as they show them."""

import math
import os
from collections.abc import Sequence
from datetime import UTC, datetime, tzinfo

import click

from job.cli.times import shown
from job.config.settings import Config, Pair
from job.core.entry import STATE_FOLDER, printable
from job.core.restore_plan import Kept
from job.core.stored_values import is_possible
from job.events.text import clean


def paths_by_pair(config: Config, pairs: Sequence[Pair], paths: Sequence[str]) -> list[tuple[Pair, list[bytes]]]:
    """Return the paths below the source of each pair; all of each pair for no paths.

    A path is below the source, or whole: below the source or the mirror. Raises `click.UsageError`.
    """
    if not config.effective_pairs:
        raise click.UsageError("The configuration has no pair.")
    if not paths:
        return [(pair, [b""]) for pair in pairs]
    found: dict[str, list[bytes]] = {}
    for path in paths:
        pair, below = _place_of(path, pairs)
        of_pair = found.setdefault(pair.name, [])
        if below not in of_pair:
            of_pair.append(below)
    return [(pair, found[pair.name]) for pair in pairs if pair.name in found]


def outermost(paths: Sequence[bytes]) -> list[bytes]:
    """Return paths without those that lie below another of them: nothing is restored twice."""
    above = [path for path in paths if path]
    if len(above) < len(paths):
        return [b""]
    return [path for path in above if not any(path.startswith(other + b"/") for other in above)]


def _place_of(path: str, pairs: Sequence[Pair]) -> tuple[Pair, bytes]:
    """Return the pair of a path, and the path below the source."""
    if os.path.isabs(path):
        at = os.path.abspath(path)
        roots = [(os.path.abspath(root), pair) for pair in pairs for root in (pair.source, pair.dest)]
        inside = [(root, pair) for root, pair in roots if at == root or at.startswith(root.rstrip("/") + "/")]
        if not inside:
            raise click.UsageError(f"'{clean(path)}' is below no source and no mirror of these pairs.")
        root, pair = max(inside, key=lambda each: len(each[0]))
        below = os.path.relpath(at, root)
    elif len(pairs) == 1:
        pair, below = pairs[0], path
    else:
        names = ", ".join(each.name for each in pairs)
        raise click.UsageError(
            f"Which pair is '{clean(path)}' of? Write --pair with one of {names}, or the whole path."
        )
    parts = [part for part in os.fsencode(below).split(b"/") if part not in {b"", b"."}]
    if b".." in parts:
        raise click.UsageError(f"'{clean(path)}' leads out of the source: write the path below it.")
    if parts[:1] == [STATE_FOLDER]:
        raise click.UsageError(f"'{clean(path)}' is Truecopy's own: write the path of the file in the source.")
    return pair, b"/".join(parts)


def shown_seconds(seconds: float | None, zone: tzinfo) -> str:
    """Return a time in the zone; `unknown` for none."""
    if seconds is None or not is_possible(seconds):
        return "unknown"
    return shown(datetime.fromtimestamp(seconds, UTC), zone)


def iso_seconds(seconds: float | None, zone: tzinfo) -> str | None:
    """Return a time as `--at` takes it and programs read it; None for none."""
    if seconds is None or not is_possible(seconds):
        return None
    return datetime.fromtimestamp(seconds, UTC).astimezone(zone).isoformat(timespec="seconds")


def time_within(kept: Kept, zone: tzinfo) -> str | None:
    """Return a time at which a version stood, as `--at` takes it; None if none is known, and for the mirror's own."""
    if kept.moment is None:
        return None
    if kept.since is None:
        return iso_seconds(kept.end - 1, zone)
    second = math.ceil(kept.since)
    return iso_seconds(second, zone) if second < kept.end else None


def place_name(kept: Kept) -> str:
    """Return where a content is kept, in words."""
    return "mirror" if kept.moment is None else printable(kept.moment.name)
