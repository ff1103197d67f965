"""`truecopy restore`: bring files back, each compared with its recorded checksum while it is written."""

import json
import os
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from functools import partial
from typing import NamedTuple
from zoneinfo import ZoneInfo

import click

from job.app.output_setup import check_outputs
from job.app.restore_setup import StopRequest, open_restorer
from job.cli.kept_paths import iso_seconds, outermost, paths_by_pair, place_name, shown_seconds, time_within
from job.cli.lines import PlainLines, shown_lines
from job.cli.main import Context, chosen_pairs, pair_option, show_error, show_refusal
from job.cli.times import point_in_time, shown
from job.config.load import read_config
from job.config.settings import Config, Pair
from job.core.entry import base64_of, printable
from job.core.outcome import reason_text
from job.engine.restore.choice import Request
from job.engine.restore.events import event_of, started
from job.engine.restore.tree import DONE, Outcome, Totals, What
from job.errors import Busy, ConfigError, Exit, JobError, Refused, Stopped
from job.events.base import Listener
from job.events.restore import RestoreFinished
from job.events.text import clean, display_text, format_bytes, plural
from job.fs.metadata import MetadataRefusal
from job.fs.private_folders import ScratchFolder
from job.outputs.log import Logs
from job.system.sandbox import Sandbox
from job.system.signals import StopSignal

_LISTED = 50
"""Restored entries that are listed one by one; of more only their number is shown."""
_OFFERED = 3
_MOST_LOGGED = 1000
"""Lines of a log about what was not restored."""


class _Options(NamedTuple):
    config: Config
    at: datetime
    is_now: bool
    zone: ZoneInfo
    place: str | None
    """The folder to restore to; None for the sources."""
    overwrite: bool
    as_json: bool
    several: bool
    """Whether several pairs are restored, each to a folder of its own."""


@click.command(
    epilog="""\b
Examples:
  truecopy restore --to /tmp/back documents/report.odt
  truecopy restore --at "yesterday 18:00" --in-place --pair documents letters
  truecopy restore --at 2026-11-20 --to /mnt/new --json >restored.jsonl
"""
)
@click.argument("paths", metavar="[PATH]...", nargs=-1, type=click.Path())
@pair_option
@click.option("--at", "when", metavar="TIME", help="As it was at this time; by default, as the mirror is now.")
@click.option("--to", "place", metavar="DIR", type=click.Path(), help="Restore to this folder, which is made.")
@click.option("--in-place", is_flag=True, help="Restore to the source.")
@click.option("--overwrite", is_flag=True, help="Rename what is in the way, and put the restored entry in its place.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@click.pass_obj
def restore(  # noqa: PLR0913  # one for each option
    context: Context,
    *,
    paths: tuple[str, ...],
    only: tuple[str, ...],
    when: str | None,
    place: str | None,
    in_place: bool,
    overwrite: bool,
    as_json: bool,
) -> int:
    """Bring back files, folders, or all of a pair.

    A PATH is below the source, or a whole path of the source or the mirror; without one, all is restored. In DIR it
    keeps its path below the source. Times are such as 'yesterday 18:00', '3 days ago' or '2026-11-20', in the time
    zone of the configuration; a day alone is its end. Where the target has an entry of the same name and another
    content, nothing is restored, but with --overwrite that entry is renamed to NAME.before-restore-TIME. Nothing is
    ever removed.

    Exit codes: 0 all was restored, 2 usage or configuration, 3 something was not, 4 refused before anything was
    written, 75 a cycle was at work for more than 30 seconds, 130 or 143 stopped.
    """
    if (place is None) is not in_place:
        raise click.UsageError("Say where to restore to: either --to DIR, or --in-place for the source.")
    config = read_config(context.config_path, context.environ).config
    zone, now = ZoneInfo(config.timezone), datetime.fromtimestamp(time.time(), UTC)
    try:
        at = now if when is None else point_in_time(when, now, zone)
    except ValueError as error:
        raise click.BadParameter(f"{clean(when or '')!r}: {error}", param_hint="--at") from None
    found = paths_by_pair(config, chosen_pairs(config, only), paths)
    chosen = [(pair, outermost(of_pair)) for pair, of_pair in found]
    options = _Options(config, at, when is None, zone, place, overwrite, as_json, several=len(chosen) > 1)
    with ExitStack() as tidy:
        scratch = tidy.enter_context(closing(ScratchFolder(context.environ)))
        stop = tidy.enter_context(StopSignal(monotonic=time.monotonic))
        sandbox = Sandbox(config.landlock, scratch, _note_no_sandbox)
        logs = tidy.enter_context(closing(_open_logs(context, config)))
        codes = {_restored(_PairRestore(options, pair, of_pair, stop), sandbox, logs) for pair, of_pair in chosen}
        return next((code for code in _WORST_FIRST if code in codes), Exit.OK)


_WORST_FIRST = (Exit.INTERRUPTED, Exit.TERMINATED, Exit.FAILED, Exit.REFUSED, Exit.PARTIAL, Exit.BUSY)


def _note_no_sandbox(reason: str) -> None:
    click.echo(f"# not restricted by the kernel: {clean(reason)}", err=True)


def _open_logs(context: Context, config: Config) -> Logs:
    """Open the configured log files. A restore goes on without them."""
    logs = Logs(
        clock=time.time,
        failed=lambda output, error: click.echo(f"# {output} failed, nothing is logged: {clean(error)}", err=True),
        stream=None,
    )
    try:
        check_outputs(context.config_path, config, context.environ)
    except ConfigError as error:
        for fault in error.faults:
            click.echo(display_text(f"# nothing is logged: {fault}"), err=True)
        return logs
    logs.configure(config)
    return logs


def _restored(restore: "_PairRestore", sandbox: Sandbox, logs: Logs) -> int:
    """Restore one pair; returns its exit code."""
    pair, stop, message = restore.pair, restore.stop, ""
    code: int = Exit.FAILED
    if stop.requested():
        return stop.exit
    try:
        code = sandbox.run(partial(restore.run, sandbox), logs)
    except Stopped as error:
        show_error(error)
        code, message = stop.exit or error.exit, error.message
    except OSError as error:
        message = f"the restore of {pair.name} failed: {reason_text(error)}"
        hint = "What has its name already is complete; run it again when the disk is well."
        show_error(JobError(message, hint=hint))
    except (Refused, Busy) as error:
        _show_refusal(pair, error, as_json=restore.options.as_json)
        code, message = error.exit, error.message
    logs(restore.finished(code, message))
    return code


def _show_refusal(pair: Pair, error: JobError, *, as_json: bool) -> None:
    if as_json:
        reason = error.reason if isinstance(error, Refused) else "busy"
        click.echo(json.dumps({"pair": pair.name, "what": "refused", "reason": reason, "error": error.message}))
        return
    show_refusal(pair, error)


class _PairRestore:
    """The restore of one pair."""

    def __init__(self, options: _Options, pair: Pair, paths: list[bytes], stop: StopSignal) -> None:
        self.options, self.pair, self.paths, self.stop = options, pair, paths, stop
        self.id = f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{os.urandom(3).hex()}"
        self._started = time.monotonic()
        self._counts: Counter[What] = Counter()
        self._size = self._unchecked = 0
        self._lacks: tuple[str, ...] = ()

    def run(self, sandbox: Sandbox, emit: Listener) -> int:
        """Restore; returns the exit code. Raises `Refused`, `Busy`, `Stopped` or `OSError`."""
        options, pair = self.options, self.pair
        place = options.place
        if place is not None and options.several:
            place = os.path.join(place, pair.name)
        suffix = f".before-restore-{self.id.partition('-')[0]}".encode("ascii")
        at = None if options.is_now else options.at.timestamp()
        with ExitStack() as tidy:
            counter = _ByteCounter()
            opened = tidy.enter_context(
                open_restorer(
                    options.config,
                    pair,
                    place,
                    Request(self.paths, at, options.overwrite, suffix),
                    counter.count_bytes,
                    StopRequest(self.stop.requested, self.stop.wait),
                )
            )
            opened.enter(sandbox)
            opened.tree.clean_up()
            totals = opened.tree.measure()
            target = os.path.abspath(place or pair.source)
            _show_start(options, pair, target, totals, opened.made_of)
            opened.check_space(totals)
            emit(started(self.id, pair.name, clean(target), options.at.timestamp(), totals))
            lines = tidy.enter_context(shown_lines(pair.name, (totals.entries, totals.size), "restoring"))
            counter.notice = lines.notice
            for outcome in tidy.enter_context(closing(opened.tree.run())):
                self._take(outcome, emit)
                lines.notice(1, 0)
                for line in _lines(options, pair, outcome, is_listed=totals.entries <= _LISTED):
                    lines.print(line)
            refusals = opened.files.metadata_writer.take_refusals()
        self._lacks = tuple(sorted(each.what for each in refusals))
        _show_end(options, pair, self._counts, (self._size, self._unchecked), refusals)
        return Exit.OK if set(self._counts) <= DONE else Exit.PARTIAL

    def _take(self, outcome: Outcome, emit: Listener) -> None:
        self._counts[outcome.what] += 1
        self._size += outcome.size
        self._unchecked += outcome.size > 0 and not outcome.is_checked
        if outcome.what in DONE or sum(self._counts[what] for what in What if what not in DONE) <= _MOST_LOGGED:
            event = event_of(self.id, self.pair.name, outcome)
            if event is not None:
                emit(event)

    def finished(self, code: int, error: str) -> RestoreFinished:
        """Return the event of its end."""
        return RestoreFinished(
            cycle_id=self.id,
            pair=self.pair.name,
            exit_code=code,
            counts={str(what): count for what, count in sorted(self._counts.items())},
            bytes=self._size,
            lacks=self._lacks,
            error=error,
            duration_seconds=time.monotonic() - self._started,
        )


class _ByteCounter:
    """Passes the progress of contents on, once lines are shown."""

    def __init__(self) -> None:
        self.notice = PlainLines().notice

    def count_bytes(self, count: int) -> None:
        self.notice(0, count)


def _show_start(options: _Options, pair: Pair, place: str, totals: Totals, made_of: str) -> None:
    """Show time and place before anything is written."""
    first = None if totals.first is None else os.path.join(place, os.fsdecode(totals.first))
    if options.as_json:
        fields = {
            "pair": pair.name,
            "what": "start",
            "at": iso_seconds(options.at.timestamp(), options.zone),
            "mirror_of": clean(made_of or pair.source),
            "to": clean(place),
            "first": None if first is None else clean(first),
            "entries": totals.entries,
            "bytes": totals.size,
        }
        click.echo(json.dumps(fields))
        return
    if made_of:
        click.echo(clean(f"# {pair.name}: {pair.dest} is the mirror of {made_of}, not of {pair.source}"))
    was = "as the mirror is now," if options.is_now else "as it was on"
    click.echo(f"# {pair.name}: {was} {shown(options.at, options.zone)}")
    if first is None:
        click.echo(clean(f"# {pair.name}: nothing to restore to {place}"))
        return
    which = "to" if totals.entries == 1 else f"{totals.entries} entries, the first one to"
    click.echo(clean(f"# {pair.name}: {which} {first} ({format_bytes(totals.size)} to write at most)"))


def _lines(options: _Options, pair: Pair, outcome: Outcome, *, is_listed: bool) -> list[str]:
    if options.as_json:
        return [_as_json(options, pair, outcome)]
    is_plain = outcome.what in {What.RESTORED, What.EQUAL} and not outcome.beside
    if is_plain and not is_listed:
        return []
    details = [outcome.reason] if outcome.reason else []
    if outcome.moment is not None:
        details.append(f"version {printable(outcome.moment.name)}")
    if outcome.beside:
        details.append(f"what was there is now {printable(outcome.beside)}")
    detail = f"  ({clean('; '.join(details))})" if details else ""
    found = [f"{outcome.what:<10} {pair.name}  {printable(outcome.path) or '.'}{detail}"]
    for offer in outcome.offers[:_OFFERED]:
        since, within = shown_seconds(offer.since, options.zone), time_within(offer, options.zone)
        how = "without --at" if offer.moment is None else f"--at {within}"
        if offer.moment is None or within is not None:
            found.append(f"           another content, since {since}, is kept: {how} ({place_name(offer)})")
    return found


def _as_json(options: _Options, pair: Pair, outcome: Outcome) -> str:
    fields = {
        "pair": pair.name,
        "what": outcome.what,
        "path": printable(outcome.path),
        "kind": outcome.kind,
        "bytes": outcome.size,
        "checked": outcome.is_checked,
        "version": None if outcome.moment is None else printable(outcome.moment.name),
        "renamed": printable(outcome.beside) or None,
        "reason": outcome.reason or None,
        "others": [time_within(each, options.zone) for each in outcome.offers],
    }
    if (code := base64_of(outcome.path)) is not None:
        fields["path_base64"] = code
    return json.dumps(fields)


def _show_end(
    options: _Options, pair: Pair, counts: Counter[What], sizes: tuple[int, int], refusals: Sequence[MetadataRefusal]
) -> None:
    size, unchecked = sizes
    if options.as_json:
        by = {str(what): count for what, count in sorted(counts.items())}
        lacks = {each.what: each.error for each in refusals}
        click.echo(
            json.dumps(
                {"pair": pair.name, "what": "end", "counts": by, "bytes": size, "unchecked": unchecked, "lacks": lacks}
            )
        )
        return
    for each in refusals:
        click.echo(f"# {pair.name}: not restored: {clean(each.what)} ({clean(each.error)})")
    words = ", ".join(f"{count} {_WORDS[what]}" for what, count in sorted(counts.items())) or "nothing"
    more = f"; {plural(unchecked, 'file')} without a recorded checksum" if unchecked else ""
    click.echo(f"# {pair.name}: {words} ({format_bytes(size)} written){more}")


_WORDS = {
    What.RESTORED: "restored",
    What.LIKELY: "restored that may be newer or older",
    What.EQUAL: "there already",
    What.EXISTS: "in the way and left alone",
    What.NOT_KEPT: "not kept",
    What.ABSENT: "not there at that time",
    What.ROTTEN: "rotten and not restored",
    What.FAILED: "failed",
}
