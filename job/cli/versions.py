"""`truecopy versions`: list what is kept of a path."""

import json
from collections.abc import Sequence
from typing import Any
from zoneinfo import ZoneInfo

import click

from job.app.restore_setup import contents_of, open_kept
from job.cli.kept_paths import iso_seconds, paths_by_pair, place_name, shown_seconds, time_within
from job.cli.main import Context, chosen_pairs, pair_option, show_refusal
from job.config.load import read_config
from job.config.settings import Config, Pair
from job.core.entry import Kind, base64_of, join, printable
from job.core.outcome import reason_text
from job.engine.restore.kept import Content, KeptTree
from job.errors import Exit, Refused
from job.events.text import clean, format_bytes, plural

_WHY = {
    "replaced": "the source got a newer one",
    "drifted": "another program had changed it in the mirror",
    "gave_way": "its name became that of another kind of entry",
    "retired": "it left the source",
    "excluded": "not kept, by versions.exclude",
}


@click.command(
    epilog="""\b
Examples:
  truecopy versions documents/report.odt
  truecopy versions --pair documents letters
  truecopy versions --json documents/report.odt | jq -r 'select(.version) | .restore_at'
"""
)
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=click.Path())
@pair_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@click.pass_obj
def versions(context: Context, *, paths: tuple[str, ...], only: tuple[str, ...], as_json: bool) -> int:
    """Show what is kept of a file, and since when.

    Each content has its times, size and checksum, and why it was replaced. Of a folder the entries with versions are
    listed. A PATH is below the source, or a whole path of the source or the mirror. The time after `--at` is one at
    which the content stood, for `truecopy restore`.

    Exit codes: 0 listed, also if nothing is kept, 2 usage or configuration, 4 a pair was refused.
    """
    config = read_config(context.config_path, context.environ).config
    worst = Exit.OK
    for pair, of_pair in paths_by_pair(config, chosen_pairs(config, only), paths):
        try:
            _show_pair(config, pair, of_pair, as_json=as_json)
        except Refused as error:
            show_refusal(pair, error)
            worst = Exit.REFUSED
    return worst


def _show_pair(config: Config, pair: Pair, paths: Sequence[bytes], *, as_json: bool) -> None:
    zone = ZoneInfo(config.timezone)
    with open_kept(config, pair) as (_, kept):
        for path in paths:
            contents = contents_of(kept, path)
            files = [each for each in contents if each.entry.kind is not Kind.FOLDER]
            for content in reversed(files):
                fields = _fields(pair, path, content, zone)
                click.echo(json.dumps(fields) if as_json else _as_text(pair, path, content, zone))
            is_folder = not path or len(files) < len(contents)
            found = _show_folder(kept, pair, path, zone, as_json=as_json) if is_folder else 0
            if not files and not found:
                nothing = "no versions are kept in it" if is_folder else "nothing is kept of it"
                click.echo(f"# {pair.name}: {printable(path) or '.'}: {nothing}", err=True)


def _show_folder(kept: KeptTree, pair: Pair, path: bytes, zone: ZoneInfo, *, as_json: bool) -> int:
    """Show the entries of a folder that have versions; returns their number."""
    try:
        found, unreadable = kept.contents(kept.places_of(path))
    except OSError as error:
        raise Refused("unreadable", f"{printable(path) or '.'} cannot be read: {reason_text(error)}") from None
    for name, trouble in unreadable:
        click.echo(clean(f"# {pair.name}: {printable(join(path, name))}: {reason_text(trouble)}"), err=True)
    count = 0
    for name in sorted(found):
        moments = [each.kept for each in found[name] if each.kept.moment is not None]
        if not moments:
            continue
        count += 1
        last = max(each.end for each in moments)
        is_in_mirror = len(moments) < len(found[name])
        kind = found[name][0].entry.kind
        if as_json:
            fields: dict[str, Any] = {
                "pair": pair.name,
                "path": printable(join(path, name)),
                "kind": kind,
                "versions": len(moments),
                "last_until": iso_seconds(last, zone),
                "in_mirror": is_in_mirror,
            }
            click.echo(json.dumps(_with_code(fields, join(path, name))))
            continue
        what = "folder with versions" if kind is Kind.FOLDER else plural(len(moments), "version")
        gone = "" if is_in_mirror else ", not in the mirror now"
        shown = printable(join(path, name))
        click.echo(f"{what:<22} {pair.name}  {shown}  (the last until {shown_seconds(last, zone)}{gone})")
    return count


def _as_text(pair: Pair, path: bytes, content: Content, zone: ZoneInfo) -> str:
    kept = content.kept
    since = shown_seconds(kept.since, zone)
    around = f"since {since}" if kept.moment is None else f"{since} .. {shown_seconds(kept.end, zone)}"
    details = [format_bytes(content.entry.size)] if content.entry.kind is Kind.FILE else [str(content.entry.kind)]
    details.append(content.checksum or "no checksum is recorded")
    if content.why is not None:
        details.append(_WHY[content.why])
    if not content.is_as_recorded:
        details.append("changed by another program since it was copied")
    within = time_within(kept, zone)
    at = f"  --at {within}" if within and kept.moment is not None else ""
    return f"{place_name(kept):<18} {pair.name}  {printable(path)}  {around}  ({'; '.join(details)}){at}"


def _fields(pair: Pair, path: bytes, content: Content, zone: ZoneInfo) -> dict[str, Any]:
    kept = content.kept
    fields: dict[str, Any] = {
        "pair": pair.name,
        "path": printable(path),
        "version": None if kept.moment is None else printable(kept.moment.name),
        "kind": content.entry.kind,
        "since": iso_seconds(kept.since, zone),
        "until": None if kept.moment is None else iso_seconds(kept.end, zone),
        "is_since_exact": kept.since is not None and kept.is_since_exact,
        "bytes": content.entry.size,
        "checksum": content.checksum or None,
        "why": None if content.why is None else str(content.why),
        "restore_at": time_within(kept, zone),
        "file": printable(content.path),
    }
    return _with_code(fields, path)


def _with_code(fields: dict[str, Any], path: bytes) -> dict[str, Any]:
    code = base64_of(path)
    return fields if code is None else fields | {"path_base64": code}
