"""Events as flat fields and as one sentence. Pure.

All text is printable: no name, path or error can forge a line end or a terminal sequence (invariant 14). A path that is
not shown byte for byte gets a second field with its base64. Long values are shortened in the middle, where their length
and the first digits of their SHA-256 are shown: `printf %s PATH | sha256sum` matches a line to a file.
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
from job.core.entry import base64_of, printable
from job.core.file_systems import file_system_of
from job.core.outcome import UnloggedReason
from job.core.redaction import redacted
from job.core.stored_values import is_possible
from job.events.base import Event

LONGEST_LINE = 4096
"""Bytes of a line with its end: the atomic size of a pipe, and a limit of most log collectors."""
LIMITS = (1024, 512, 256, 128, 64, 32, 16)
"""Maximum characters of a value, bytes of a path: tried in this order until the line fits."""
LONGEST_VALUE = LIMITS[0]
_DIGITS = 16


def shorten(text: str, longest: int) -> str:
    """Shorten a printable text to about `longest` characters."""
    if len(text) <= longest:
        return text
    mark = _mark(len(text), "characters", text.encode("utf-8", "surrogateescape"))
    return f"{text[: longest // 2]}{mark}{text[-(longest // 2) :]}"


def shorten_list(texts: Sequence[str], longest: int) -> list[str]:
    """Shorten each printable text, then drop texts from the middle of the list until it fits."""
    short = [shorten(text, longest) for text in texts]
    if sum(map(len, short)) <= 2 * longest:
        return short
    first = sum(1 for length in accumulate(map(len, short)) if length <= longest)
    last = sum(1 for length in accumulate(map(len, reversed(short))) if length <= longest)
    left_out = len(short) - first - last
    return [*short[:first], f"... {left_out} more ...", *short[len(short) - last :]] if left_out > 0 else short


def printable_path(path: bytes, longest: int) -> tuple[str, str | None]:
    """Return a path in printable form, and in base64 if that form does not determine its bytes; both shortened.

    The middle of a long path is cut before the rest is escaped, since escaping long binary paths is slow.
    """
    if len(path) <= longest:
        return printable(path), base64_of(path)
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
    """Drop the parts of UTF-8 characters at the cuts."""
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
    "priority_not_set": "The I/O priority {io_priority} cannot be set here; the normal one is used",
    "private_folder_skipped": "The private folder {folder} is skipped, the next candidate is used: {error}",
    "state_not_persistent": "What is remembered of mirrors lies in the container itself ({folder}) and is lost with it",
    "sandbox_unavailable": "Work goes on without a sandbox: {reason}",
    "config_reloaded": "The changed {config} is in force",
    "config_insecure": "Other users can change {config}, or read a secret that it needs: {error}",
    "config_rejected": "{config} cannot be used, the last good configuration stays in force: {error}",
    "port_changed": "The metrics port changed from {before} to {address}",
    "port_not_opened": "{error}. Backups go on without it; it is retried every 30 seconds. {hint}",
    "port_not_changed": "{error}. Metrics stay at {served}; the new address is retried every 30 seconds. {hint}",
    "next_cycle_due": "The next cycle starts in {wait}",
    "cycle_crashed": "The cycle ended by an unexpected error, please report it: {error}",
    "output_failed": "Output {output} failed, the cycle goes on: {error}",
    "cycle_started": "A cycle started",
    "cycle_finished": "Cycle {result}: {counts} in {spent}",
    "idle_cycles_counted": "Cycles without a change in the last {spent} that were not logged: {cycles}",
    "pair_started": "Scanning {source} for its mirror {mirror}{unbraked}",
    "pair_refused": "Refused, no entry was changed: {error}",
    "brake_held": "Held, nothing was replaced: {error}. {hint}",
    "brake_released": "The hold ended: {reason}",
    "pair_busy": "Busy, no entry was changed: {error}",
    "lease_taken_over": "The lease on the mirror is taken over: {left_by} stopped renewing it",
    "mirror_created": "The mirror {mirror} did not exist and was created",
    "mirror_adopted": "The mirror {mirror} is adopted with the id {mirror_id}",
    "mirror_not_recorded": "The mirror {mirror} cannot be recorded; if it goes missing, it is created anew: {error}",
    "state_folder_lost": "{error}; contents are compared",
    "history_reset": "The counters of the pair start at zero: {reason}",
    "pair_failed": "Aborted in mid-run: {error}",
    "pair_finished": "Pair {pair} {result}: {counts} in {spent}",
    "index_rebuilt": "The index is rebuilt, contents are compared: {reason}",
    "worker_lost": "A worker process is lost, its entries fail and are retried in the next cycle: {error}",
    "cycle_stalled": "No progress for {stalled}, {process} hangs: {at}",
    "cycle_resumed": "Progress again after a stall of {stalled}",
    "metadata_not_kept": "Not kept in the mirror: {what}, first met at {path}: {error}",
    "mirror_probed": "The mirror's file system ({file_system}) lacks {lacking}",
    "mount_skipped": "Left out {path}: {there}, and cross_mounts is off",
    "mount_missing": "The {file_system} file system at {path} is not mounted any more; its mirror stays as it is",
    "mount_forgotten": "No {file_system} mount is expected at {path} any more: it is gone, excluded or not empty",
    "pseudo_filesystem_skipped": "Left out {path}: {file_system} is a kernel file system and holds no files",
    "own_files_skipped": "Left out {path}: it belongs to Truecopy",
    "versions_expired": "Versions expired: {files} ({reasons}), {size}",
    "versions_given_up": "The disk is full; versions of {folder} that were given up: {files}, {size}",
    "versions_gave_nothing": "The disk stays full although versions were given up: {files}, {size}",
    "versions_over_limit": "Versions take {size}, more than their limit of {limit} bytes, and all of them have to stay",
    "versions_from_future": "{folders} version folders are of the future, the first is {folder}: look at the clock",
    "expiry_postponed": "No version expires in this cycle: {postponed}",
    "retention_changed": "The rule for versions is now {rule} (before: {before}): {files} ({size}) expire next",
    "file_copied": "Copied {path}: {reason}",
    "file_updated": "Updated {path}: {reason}",
    "file_skipped": "Skipped {path}: {reason}",
    "file_failed": "Failed {path}: {error}",
    "replaced_by_folder": "A folder replaced the {kind} {path} in the mirror",
    "folder_retired": "The folder {path} is no folder in the source any more; it is kept as {version}",
    "file_retired": "Retired the {kind} {path}, which left the source; it is kept as {version}",
    "file_not_retired": "Not retired: {path}: {error}",
    "entry_set_aside": "The {kind} {path} of the mirror is set aside and kept as {version}: {reason}",
    "drift_found": "Drift in the mirror: {path}: {kind}",
    "restore_started": "Restoring to {target}, entries: {entries} at most",
    "file_restored": "Restored {path}",
    "file_rotten": "Rotten, and not restored: {path}: {error}",
    "file_not_restored": "Not restored: {path}: {error}",
    "restore_finished": "The restore ended with exit code {exit_code} in {spent}{ending}",
    "log_lines_suppressed": "Not logged: {entries} more {of} in {path}, {why}: {reasons}",
    "folders_unchanged": "Unchanged: {unchanged}",
}
"""Sentence of each logged event by its name; placeholders are its fields and the words that `_words` adds."""

ROOT = "."
"""Shown for the empty path of a root."""

_SIZES = ("B", "kB", "MB", "GB", "TB", "PB")
_UNITS = ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))
_SHORT_UNITS = {"hour": "h", "minute": "min", "second": "s"}
_FROM_UNITS = 1.5
"""A unit is used from this many on: 90 minutes are 2 hours, 80 minutes stay minutes."""
_NOW_SECONDS = 2
_COUNT_WORDS = ("{size}", "{reasons}", "{counts}", "{spent}", "{wait}", "{stalled}", "{unchanged}")
_WORDS = (*_COUNT_WORDS, "{postponed}", "{lacking}", "{there}", "{unbraked}")
_IN_WORDS = {name for name, text in SENTENCES.items() if any(word in text for word in _WORDS)}
_WHY = {
    UnloggedReason.FOLDER: "too many in one folder",
    UnloggedReason.CYCLE: "too many in one cycle",
    UnloggedReason.AS_BEFORE: "as in the previous cycle",
}
_POSTPONED = {
    "ahead": "the last one is long ago, or the clock was set forward",
    "behind": "the clock was set back",
    "disk": "the clock differs from that of the mirror's file system",
}
_COUNTS = "{copied} copied ({size}), {updated} updated, {skipped} skipped, {failed} failed"


def clean(text: str) -> str:
    """Make any text printable; surrogate escapes become escapes of their bytes."""
    if text.isprintable():
        return text
    try:
        return printable(text.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:
        return printable(text.encode("utf-8", "backslashreplace"))


def display_text(text: str) -> str:
    """Make an error text of any origin safe to show: printable and without secrets."""
    return clean(redacted(text))


def fields_of(event: Event, longest: int = LONGEST_VALUE) -> Fields:
    """Return the fields of an event in declared order, flat and ready for JSON; values are cut to about `longest`."""
    kind = type(event)
    texts, others = _FIELD_WRITERS.get(kind) or _writers_for(kind)
    fields = vars(event).copy()
    for name in texts:
        if not fields[name].isprintable():
            fields[name] = clean(fields[name])
        if len(fields[name]) > longest:
            fields[name] = shorten(fields[name], longest)
    for name, write in others:
        write(fields, name, fields[name], longest)
    return fields


def tally_fields(tally: Tally) -> Fields:
    """Return the counts of a tally, in all and by reason."""
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
    """Return one short sentence for an event from its `fields`."""
    words = fields | _words(fields) if event.name in _IN_WORDS else fields
    if words.get("path") == "":
        words = words | {"path": ROOT}
    return SENTENCES.get(event.name, event.name).format_map(words)


def _words(fields: Fields) -> Fields:
    words = {word: make(fields) for field, word, make in _MADE if field in fields}
    for field, word in (("duration_seconds", "spent"), ("wait_seconds", "wait"), ("stalled_seconds", "stalled")):
        if field in fields:
            words[word] = format_duration(fields[field])
    if "entries" in fields and "folders" in fields:
        words["unchanged"] = f"{plural(fields['entries'], 'entry', 'entries')} in {plural(fields['folders'], 'folder')}"
    return words


_MADE: tuple[tuple[str, str, Callable[[Fields], str]], ...] = (
    (
        "bytes_copied",
        "counts",
        lambda fields: _COUNTS.format_map(fields | {"size": format_bytes(fields["bytes_copied"])}),
    ),
    ("where", "at", lambda fields: fields["where"] or fields["doing"] or "an unknown place"),
    ("bytes", "size", lambda fields: format_bytes(fields["bytes"])),
    ("error", "postponed", lambda fields: _POSTPONED.get(fields.get("reason", "")) or fields["error"]),
    ("file_system", "there", lambda fields: file_system_of(fields["file_system"])),
    ("brake", "unbraked", lambda fields: "" if fields["brake"] else "; its brake is off"),
    ("lacks", "lacking", lambda fields: ", ".join(fields["lacks"]) or "nothing"),
    ("because", "why", lambda fields: _WHY[fields["because"]]),
    ("exit_code", "ending", lambda fields: fields["error"] and f": {fields['error']}"),
    ("by", "reasons", lambda fields: ", ".join(f"{count} {word}" for word, count in fields["by"].items())),
)
"""Words derived from a field: field, word, function."""


def plural(number: int, one: str, many: str = "") -> str:
    """Format a count with its noun: `1 entry`, `2 entries`; `many` is `one` with an s by default."""
    return f"{number} {one}" if number == 1 else f"{number} {many or one + 's'}"


def format_bytes(count: object) -> str:
    """Format a number of bytes in powers of 1000: `1.5 MB`."""
    value = float(count) if isinstance(count, int | float) else 0.0
    for unit in _SIZES[:-1]:
        if value < 1000:  # noqa: PLR2004 - the step between two units
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} {_SIZES[-1]}"


def format_duration(seconds: object) -> str:
    """Format a duration: `0.3 s`, `2 min 5 s`, `3 h 0 min`."""
    if not isinstance(seconds, int | float):
        return "unknown time"
    if seconds < 60:  # noqa: PLR2004 - a minute
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:  # noqa: PLR2004 - an hour
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def approximate_duration(seconds: float) -> str:
    """Format a duration in its largest unit: `3 minutes`, `1 day`."""
    length, unit = next((each for each in _UNITS if seconds >= _FROM_UNITS * each[0]), _UNITS[-1])
    return plural(max(0, round(seconds / length)), unit)


def time_ago(seconds: float, *, short: bool = False) -> str:
    """Format an age: `3 minutes ago`, if `short` `3 min ago`; negative after the clock was set back."""
    if seconds < 0:
        return "in the future"
    if seconds < _NOW_SECONDS:
        return "just now"
    age = approximate_duration(seconds)
    if short:
        for unit, brief in _SHORT_UNITS.items():
            age = age.replace(f"{unit}s", brief).replace(unit, brief)
    return f"{age} ago"


def format_timestamp(seconds: float | None) -> str | None:
    """Format seconds since the epoch as RFC 3339 in UTC; None for 0 and for values that are no date."""
    if not seconds or not is_possible(seconds):
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _write_texts(fields: Fields, name: str, texts: Iterable[str], longest: int) -> None:
    fields[name] = shorten_list([clean(text) for text in texts], longest)


def _write_number(fields: Fields, name: str, number: float, _: int) -> None:
    fields[name] = round(number, 6) if math.isfinite(number) else None


def _write_path(fields: Fields, name: str, path: bytes, longest: int) -> None:
    if len(path) <= longest:
        shown = fields[name] = printable(path)
        if shown.encode() == path:
            return
    fields[name], encoded = printable_path(path, longest)
    if encoded is not None:
        _replace_field(fields, name, {name: fields[name], f"{name}_base64": encoded})


def _write_tally(fields: Fields, name: str, tally: Tally, _: int) -> None:
    _replace_field(fields, name, tally_fields(tally))


def _write_counts(fields: Fields, name: str, counts: dict[str, int], _: int) -> None:
    fields[name] = {clean(word): count for word, count in counts.items()}


def _replace_field(fields: Fields, name: str, replacements: Fields) -> None:
    """Replace one field by several, keeping the order."""
    before = fields.copy()
    fields.clear()
    for each, value in before.items():
        fields.update(replacements if each == name else {each: value})


_Writer = Callable[[Fields, str, Any, int], None]
_WRITERS: dict[object, _Writer] = {
    float: _write_number,
    bytes: _write_path,
    tuple[str, ...]: _write_texts,
    dict[str, int]: _write_counts,
    Tally: _write_tally,
}


class _FieldWriters(NamedTuple):
    texts: list[str]
    others: list[tuple[str, _Writer]]


_FIELD_WRITERS: dict[type[Event], _FieldWriters] = {}
"""Fields of each event class that need conversion; computed once, since a large copy emits thousands of events."""


def _writers_for(kind: type[Event]) -> _FieldWriters:
    # Numbers and enumerations are safe. A type without a writer raises `KeyError` instead of passing (invariant 14).
    fine = {name for name, type_ in kind.fields.items() if type_ in {int, bool} or isinstance(type_, EnumType)}
    texts = [name for name, type_ in kind.fields.items() if type_ is str]
    others = [(name, _WRITERS[kind.fields[name]]) for name in kind.fields if name not in fine and name not in texts]
    writers = _FIELD_WRITERS[kind] = _FieldWriters(texts, others)
    return writers
