"""`truecopy orphans`: list what the mirror holds that left the source."""

import json
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

import click

from job.app.preview_setup import open_preview
from job.cli.kept_paths import iso_seconds, shown_seconds
from job.cli.main import Context, chosen_pairs, pair_option, show_each
from job.config.load import read_config
from job.config.settings import Config, Pair
from job.core.entry import Kind, base64_of, printable
from job.core.outcome import reason_text
from job.engine.preflight.open_pair import open_roots
from job.engine.versions.orphan_walk import NotWalked, Orphan, walked
from job.events.text import clean, format_bytes, plural
from job.store.memory import Memory


@click.command(
    epilog="""\b
Examples:
  truecopy orphans
  truecopy orphans --pair photos
  truecopy orphans --json | jq -r 'select(.bytes > 1000000000) | .path'
"""
)
@pair_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@click.pass_obj
def orphans(context: Context, *, only: tuple[str, ...], as_json: bool) -> int:
    """Show what the mirrors hold that left the source.

    Each line has the time at which a cycle first missed the entry, its path, size and checksum. A folder that left as
    a whole is one line. Excluded entries are none. Both trees are listed; nothing is changed.

    Exit codes: 0 listed, 2 usage or configuration, 3 a folder could not be read, 4 a pair was refused.
    """
    config = read_config(context.config_path, context.environ).config
    memory = Memory.of(config, context.environ)
    return show_each(chosen_pairs(config, only), partial(_show_pair, config, memory, as_json=as_json))


def _show_pair(config: Config, memory: Memory, pair: Pair, *, as_json: bool) -> int:
    entries = files = size = unread = 0
    zone = ZoneInfo(config.timezone)
    with (
        open_roots(pair, config.state_dir, memory) as roots,
        open_preview(config, pair, *roots) as view,
    ):
        for each in walked(view.source, roots, view.index, view.mirror):
            if isinstance(each, NotWalked):
                unread += 1
                text = f"# {pair.name}: {printable(each.path) or '.'} cannot be read: {reason_text(each.error)}"
                click.echo(clean(text), err=True)
                continue
            entries, files, size = entries + 1, files + each.files, size + each.bytes
            click.echo(json.dumps(_fields(pair, each, zone)) if as_json else _as_text(pair, each, zone))
    if not as_json:
        found = f"{plural(entries, 'entry', 'entries')} left the source: {plural(files, 'file')}, {format_bytes(size)}"
        click.echo(f"# {pair.name}: {found if entries else 'nothing left the source'}")
    return unread


def _as_text(pair: Pair, orphan: Orphan, zone: ZoneInfo) -> str:
    since = shown_seconds(orphan.since_ns / 1e9 if orphan.since_ns else None, zone)
    what = f"folder with {plural(orphan.files, 'file')}" if orphan.kind is Kind.FOLDER else str(orphan.kind)
    details = f"{what}, {format_bytes(orphan.bytes)}" + (f", {orphan.checksum}" if orphan.checksum else "")
    return f"{since:<35}  {pair.name}  {printable(orphan.path)}  ({details})"


def _fields(pair: Pair, orphan: Orphan, zone: ZoneInfo) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "pair": pair.name,
        "path": printable(orphan.path),
        "kind": orphan.kind,
        "since": iso_seconds(orphan.since_ns / 1e9 if orphan.since_ns else None, zone),
        "files": orphan.files,
        "bytes": orphan.bytes,
        "checksum": orphan.checksum or None,
    }
    if (code := base64_of(orphan.path)) is not None:
        fields["path_base64"] = code
    return fields
