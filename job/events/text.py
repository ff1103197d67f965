"""What an event looks like outside: flat fields for machines and one short sentence for people. Pure.

Every text that leaves here is printable: no name, path or error can forge a line end or a terminal sequence
(invariant 14). The bytes of a path that is not shown as it is stand beside it in base64. What is very long is shortened
in its middle (`brevity.py`).

Brevity: no line of a log is longer than a page. What is too long is shortened in the middle. Pure.

Where something is left out stand its whole length and the first digits of its SHA-256, so that a line can be matched
to a file all the same: `printf %s PATH | sha256sum`.
"""

import base64
import math
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from enum import EnumType
from hashlib import sha256
from itertools import accumulate
from typing import Any, NamedTuple

from job.core.counts import Tally
from job.core.entry import printable
from job.core.mounts import file_system_of
from job.core.outcome import UnloggedReason
from job.core.redaction import redacted
from job.core.stored import is_possible
from job.events.service import Event

LONGEST_LINE = 4096
"""Bytes of a line, with its end: the page of a terminal, a pipe and most log collectors."""
LIMITS = (1024, 512, 256, 128, 64, 32, 16)
"""Characters of a value that are tried one after the other until the line fits; bytes of a path."""
LONGEST_VALUE = LIMITS[0]
_DIGITS = 16


def shortened(text: str, longest: int) -> str:
    """Shorten a printable text, if it is too long."""
    if len(text) <= longest:
        return text
    mark = _mark(len(text), "characters", text.encode("utf-8", "surrogateescape"))
    return f"{text[: longest // 2]}{mark}{text[-(longest // 2) :]}"


def several(texts: Sequence[str], longest: int) -> list[str]:
    """Shorten a list of printable texts: each of them, and then the list in its middle, if it is too long."""
    short = [shortened(text, longest) for text in texts]
    if sum(map(len, short)) <= 2 * longest:
        return short
    first = sum(1 for size in accumulate(map(len, short)) if size <= longest)
    last = sum(1 for size in accumulate(map(len, reversed(short))) if size <= longest)
    left_out = len(short) - first - last
    return [*short[:first], f"... {left_out} more ...", *short[len(short) - last :]] if left_out > 0 else short


def printable_path(path: bytes, longest: int) -> tuple[str, str | None]:
    """Give a path as it is shown, and in base64 where what is shown does not tell its bytes; both shortened if needed.

    What is left out of a long path is not made printable first: that takes long where nothing in it is.
    """
    if len(path) <= longest:
        shown = printable(path)
        return shown, None if shown.encode() == path else _base64(path)
    head, tail = _whole_characters(path[: longest // 2], path[-(longest // 2) :])
    mark = _mark(len(path), "bytes", path)
    encoded = None if _is_printable(path) else f"{_base64(head)}{mark}{_base64(tail)}"
    return f"{printable(head)}{mark}{printable(tail)}", encoded


def _mark(size: int, unit: str, content: bytes) -> str:
    return f"...[{size} {unit}, sha256 {sha256(content).hexdigest()[:_DIGITS]}]..."


def _base64(path: bytes) -> str:
    return base64.b64encode(path).decode("ascii")


def _is_printable(path: bytes) -> bool:
    try:
        return path.decode().isprintable()
    except UnicodeDecodeError:
        return False


def _whole_characters(head: bytes, tail: bytes) -> tuple[bytes, bytes]:
    """Leave out the parts of characters, of UTF-8, that the cuts left."""
    end = len(head)
    while end > len(head) - 4 and end and head[end - 1] & 0xC0 == 0x80:  # noqa: PLR2004  # a character has four bytes
        end -= 1
    begun = end and head[end - 1] >= 0xC0  # noqa: PLR2004  # the first byte of a character
    if begun:
        try:
            head[end - 1 :].decode()
        except UnicodeDecodeError:
            head = head[: end - 1]
    start = 0
    while start < min(3, len(tail)) and tail[start] & 0xC0 == 0x80:  # noqa: PLR2004
        start += 1
    return head, tail[start:]


Fields = dict[str, Any]

SENTENCES = {
    "service_started": "Truecopy {version} started with {config}, pairs: {pairs}, metrics: {metrics}",
    "service_stopped": "Truecopy stopped: {reason}",
    "signal_received": "{signal} was received: {effect}",
    "run_disabled": "Nothing was done: run_enabled is '{run_enabled}' in {config}, only 'Y' runs",
    "busy_skipped": "Pairs that another instance works on were skipped; the exit code is 0 because of --skip-if-busy",
    "priority_not_set": "The I/O priority {io_priority} cannot be set here, work goes on without it",
    "private_folder_skipped": "The private folder {folder} is not used, another is: {error}",
    "sandbox_unavailable": "No wall of the kernel's around the work, it goes on without: {reason}",
    "config_reloaded": "The changed {config} is in force",
    "config_insecure": "Others may change {config}, or read a secret that it needs: {error}",
    "config_rejected": "{config} cannot be used, the last good configuration stays in force: {error}",
    "port_changed": "The metrics port is {address} now; before it was {before}",
    "port_not_opened": "{error}. Backups go on without it; it is tried again every 30 seconds. {hint}",
    "port_not_changed": "{error}. Metrics stay at {served}; the new place is tried again every 30 seconds. {hint}",
    "next_cycle_due": "The next cycle starts in {wait}",
    "cycle_crashed": "The cycle ended by an unexpected error, please report it: {error}",
    "output_failed": "Output {output} failed, the cycle goes on: {error}",
    "cycle_started": "A cycle started",
    "cycle_finished": "Cycle {result}: {counts} in {spent}",
    "idle_cycles_counted": "Cycles without a change in the last {spent}, not logged one by one: {cycles}",
    "pair_started": "Looking at {source}, its mirror is {mirror}",
    "pair_refused": "Refused, nothing was written: {error}",
    "pair_busy": "Busy, nothing was written: {error}",
    "lease_taken_over": "The mirror was left without a word by {left_by}; its lease is taken over",
    "mirror_created": "The mirror {mirror} did not exist and was made",
    "mirror_not_recorded": "Not recorded that {mirror} exists, so that it is made again if it is missing: {error}",
    "state_folder_lost": "{error}; contents are compared",
    "history_reset": "Counting begins anew: {reason}",
    "pair_failed": "Given up in mid-run: {error}",
    "pair_finished": "Pair {pair} {result}: {counts} in {spent}",
    "index_rebuilt": "The index is rebuilt, contents are compared: {reason}",
    "worker_lost": "A worker process is lost, what it was doing fails: {error}",
    "cycle_stalled": "Nothing has moved for {stalled}, {process} hangs: {at}",
    "cycle_resumed": "What hung for {stalled} moves again",
    "metadata_not_kept": "Not kept in the mirror: {what}, first met at {path}: {error}",
    "mirror_probed": "The mirror's file system ({file_system}) lacks {lacking}",
    "mount_skipped": "Left out {path}: {there}, and cross_mounts is off",
    "mount_missing": "Nothing is mounted at {path} any more ({file_system} was), its mirror is left alone",
    "mount_forgotten": "No mount is expected at {path} any more ({file_system} was): it is gone, excluded or not empty",
    "pseudo_filesystem_skipped": "Left out {path}: {file_system} shows the kernel and holds no files",
    "own_files_skipped": "Left out {path}: it is Truecopy's own",
    "file_copied": "Copied {path}: {reason}",
    "file_updated": "Updated {path}: {reason}",
    "file_skipped": "Skipped {path}: {reason}",
    "file_failed": "Failed {path}: {error}",
    "replaced_by_folder": "A folder took the place of the {kind} {path} in the mirror",
    "folder_retired": "The folder {path} gave way to something else and is kept as {version}",
    "entry_set_aside": "The {kind} {path} of the mirror is set aside and kept as {version}: {reason}",
    "drift_found": "Not as it was left in the mirror: {path}: {kind}",
    "log_lines_suppressed": "Not logged one by one: {entries} more {of} in {path}, {why}: {reasons}",
    "folders_unchanged": "Unchanged: {unchanged}",
}
"""The sentence of each logged event by its name, over its fields and what `_words` makes of them."""

ROOT = "."
"""How the root of a source or mirror, whose path below itself is empty, is shown to people."""

_SIZES = ("B", "kB", "MB", "GB", "TB", "PB")
_UNITS = ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))
_SHORT_UNITS = {"hour": "h", "minute": "min", "second": "s"}
_FROM_UNITS = 1.5
"""So many of a unit are written in it: 90 minutes are 2 hours, and 80 minutes are 80 minutes."""
_NOW_SECONDS = 2
_WORDS = ("{reasons}", "{counts}", "{spent}", "{wait}", "{stalled}", "{lacking}", "{unchanged}", "{there}")
_IN_WORDS = {name for name, text in SENTENCES.items() if any(word in text for word in _WORDS)}
_WHY = {
    UnloggedReason.FOLDER: "so many in one folder",
    UnloggedReason.CYCLE: "so many in one cycle",
    UnloggedReason.AS_BEFORE: "as in the cycle before",
}
_COUNTS = "{copied} copied ({size}), {updated} updated, {skipped} skipped, {failed} failed"


def clean(text: str) -> str:
    """Make any text printable; surrogates that stand for bytes become escapes of those bytes."""
    if text.isprintable():
        return text
    try:
        return printable(text.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:
        return printable(text.encode("utf-8", "backslashreplace"))


def told(text: str) -> str:
    """Make what went wrong fit to be shown, whoever worded it: printable, and without any secret."""
    return clean(redacted(text))


def fields_of(event: Event, longest: int = LONGEST_VALUE) -> Fields:
    """Give an event's fields, flat and ready for JSON, in the order they are declared; none much above `longest`."""
    kind = type(event)
    texts, others = _PLANS.get(kind) or _plan(kind)
    fields = vars(event).copy()
    for name in texts:
        if not fields[name].isprintable():
            fields[name] = clean(fields[name])
        if len(fields[name]) > longest:
            fields[name] = shortened(fields[name], longest)
    for name, put in others:
        put(fields, name, fields[name], longest)
    return fields


def tally_fields(tally: Tally) -> Fields:
    """Give the counts of a tally, and what is behind them by reason."""
    return {
        "entries": tally.entries,
        "copied": tally.copied,
        "updated": tally.updated,
        "skipped": tally.skipped,
        "failed": tally.failed,
        "bytes_copied": tally.bytes_copied,
        "folders": tally.folders,
        "skipped_by": {str(reason): count for reason, count in tally.skipped_by.items()},
        "failed_by": {str(reason): count for reason, count in tally.failed_by.items()},
        "drift_by": {str(kind): count for kind, count in tally.drift_by.items()},
    }


def sentence(event: Event, fields: Fields) -> str:
    """Say what happened in one short sentence, made of the event's own `fields`."""
    words = fields | _words(fields) if event.name in _IN_WORDS else fields
    if words.get("path") == "":
        words = words | {"path": ROOT}
    return SENTENCES.get(event.name, event.name).format_map(words)


def _words(fields: Fields) -> Fields:
    words = {word: make(fields) for field, word, make in _MADE if field in fields}
    for field, word in (("duration_seconds", "spent"), ("wait_seconds", "wait"), ("stalled_seconds", "stalled")):
        if field in fields:
            words[word] = spent(fields[field])
    if "entries" in fields and "folders" in fields:
        words["unchanged"] = (
            f"{counted(fields['entries'], 'entry', 'entries')} in {counted(fields['folders'], 'folder')}"
        )
    return words


_MADE: tuple[tuple[str, str, Callable[[Fields], str]], ...] = (
    ("bytes_copied", "counts", lambda fields: _COUNTS.format_map(fields | {"size": size(fields["bytes_copied"])})),
    ("where", "at", lambda fields: fields["where"] or fields["doing"] or "where is not known"),
    ("file_system", "there", lambda fields: file_system_of(fields["file_system"])),
    ("lacks", "lacking", lambda fields: ", ".join(fields["lacks"]) or "nothing that was looked for"),
    ("because", "why", lambda fields: _WHY[fields["because"]]),
    ("by", "reasons", lambda fields: ", ".join(f"{count} {word}" for word, count in fields["by"].items())),
)
"""Words that are made where an event has a field."""


def counted(number: int, one: str, several: str = "") -> str:
    """Write a number of things for people: `1 entry`, `2 entries`; `several` is `one` with an s unless given."""
    return f"{number} {one}" if number == 1 else f"{number} {several or one + 's'}"


def size(count: object) -> str:
    """Write a number of bytes for people, in powers of 1000."""
    value = float(count) if isinstance(count, int | float) else 0.0
    for unit in _SIZES[:-1]:
        if value < 1000:  # noqa: PLR2004 - the step between two units
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} {_SIZES[-1]}"


def spent(seconds: object) -> str:
    """Write a duration for people: `0.3 s`, `2 min 5 s`, `3 h 0 min`."""
    if not isinstance(seconds, int | float):
        return "unknown time"
    if seconds < 60:  # noqa: PLR2004 - a minute
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:  # noqa: PLR2004 - an hour
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def lasting(seconds: float) -> str:
    """Write a length of time for people, in its largest unit: `3 minutes`, `1 day`."""
    length, unit = next((each for each in _UNITS if seconds >= _FROM_UNITS * each[0]), _UNITS[-1])
    count = max(0, round(seconds / length))
    return f"{count} {unit}{'' if count == 1 else 's'}"


def ago(seconds: float, *, short: bool = False) -> str:
    """Tell how long ago something was: `3 minutes ago`, or `3 min ago`; a clock may have been set since."""
    if seconds < 0:
        return "in the future"
    if seconds < _NOW_SECONDS:
        return "just now"
    told = lasting(seconds)
    if short:
        for unit, brief in _SHORT_UNITS.items():
            told = told.replace(f"{unit}s", brief).replace(unit, brief)
    return f"{told} ago"


def moment(seconds: float | None) -> str | None:
    """Write a moment as RFC 3339 in UTC; None for never, and for what no date is."""
    if not seconds or not is_possible(seconds):
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _put_texts(fields: Fields, name: str, texts: Iterable[str], longest: int) -> None:
    fields[name] = several([clean(text) for text in texts], longest)


def _put_number(fields: Fields, name: str, number: float, _: int) -> None:
    fields[name] = round(number, 6) if math.isfinite(number) else None


def _put_path(fields: Fields, name: str, path: bytes, longest: int) -> None:
    if len(path) <= longest:
        shown = fields[name] = printable(path)
        if shown.encode() == path:
            return
    fields[name], encoded = printable_path(path, longest)
    if encoded is not None:
        _put_several(fields, name, {name: fields[name], f"{name}_base64": encoded})


def _put_tally(fields: Fields, name: str, tally: Tally, _: int) -> None:
    _put_several(fields, name, tally_fields(tally))


def _put_counts(fields: Fields, name: str, counts: dict[str, int], _: int) -> None:
    fields[name] = {clean(word): count for word, count in counts.items()}


def _put_several(fields: Fields, name: str, several: Fields) -> None:
    """Put fields where one is, in its place in the order."""
    before = fields.copy()
    fields.clear()
    for each, value in before.items():
        fields.update(several if each == name else {each: value})


_Put = Callable[[Fields, str, Any, int], None]
_PUTS: dict[object, _Put] = {
    float: _put_number,
    bytes: _put_path,
    tuple[str, ...]: _put_texts,
    dict[str, int]: _put_counts,
    Tally: _put_tally,
}


class _Plan(NamedTuple):
    texts: list[str]
    others: list[tuple[str, _Put]]


_PLANS: dict[type[Event], _Plan] = {}
"""Which fields have to be made printable, and how: settled once for each kind, of which a mass copy tells thousands."""


def _plan(kind: type[Event]) -> _Plan:
    # Numbers are fine as they are, and so are the closed words, of `core/outcome.py` and `Kind`. Any type that is not
    # known here raises instead of slipping through as it is (invariant 14).
    fine = {name for name, type_ in kind.fields.items() if type_ in {int, bool} or isinstance(type_, EnumType)}
    texts = [name for name, type_ in kind.fields.items() if type_ is str]
    others = [(name, _PUTS[kind.fields[name]]) for name in kind.fields if name not in fine and name not in texts]
    plan = _PLANS[kind] = _Plan(texts, others)
    return plan
