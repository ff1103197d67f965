"""`truecopy plan --retention`: which versions the next successful cycle would remove, and why."""

import json
import time
from contextlib import closing

import click

from job.app.preview_setup import open_preview
from job.config.settings import Config, Pair
from job.core.entry import base64_of, join, printable
from job.core.outcome import Refusal, reason_text
from job.core.versions import Moment
from job.engine.dry_run import Preview
from job.engine.preflight.open_pair import open_roots
from job.engine.versions.expiry import limit_of, retention_of, words_of
from job.engine.versions.judge import Going, what_goes
from job.errors import Refused
from job.events.text import clean, format_bytes, format_timestamp, plural
from job.fs.version_tree import VersionTree, open_versions
from job.store.memory import Memory
from job.store.version_table import MomentRow


def show(config: Config, pair: Pair, memory: Memory, *, as_json: bool) -> None:
    """Print one line for each version that would go. Raises `Refused`."""
    with (
        open_roots(pair, config.state_dir, memory) as (source, mirror),
        open_preview(config, pair, source, mirror) as view,
    ):
        try:
            tree = open_versions(mirror, None)
            if tree is None:
                _note(pair, "there are no versions", as_json=as_json)
                return
            with closing(tree):
                _show(config, pair, view, tree, as_json=as_json)
        except OSError as error:
            message = f"the versions of the mirror {pair.dest} cannot be read: {reason_text(error)}"
            hint = "Look at .truecopy/versions of the mirror."
            raise Refused(Refusal.STATE_UNUSABLE, message, hint=hint) from None


def _show(config: Config, pair: Pair, view: Preview, tree: VersionTree, *, as_json: bool) -> None:
    if pair.versions is None:
        _note(pair, "versions are off, so that none is removed", as_json=as_json)
        return
    table, now = view.index.version_table, time.time()
    known = table.moments()
    rows = {moment: known.get(moment) or MomentRow(0, *tree.extent(moment), 0) for moment in tree.moments}
    rule = retention_of(pair.versions, rows, now, config.timezone)
    files = size = 0
    for each in what_goes(tree, view.mirror_root, table, rows, (rule, limit_of(pair.versions, tree.root))):
        files += len(each.names)
        for name, fate in sorted(each.names.items()):
            count = tree.sizes(each.moment, each.folder, [name])[0]
            size += count
            click.echo(_line(pair, each, name, str(fate), count, as_json=as_json))
    before = view.index.schedule().versions_rule
    if before is not None and words_of(before) != words_of(pair.versions.rule):
        change = f"the rule was {words_of(before)}: the next cycle reports the change, the one after it removes"
        _note(pair, change, as_json=as_json)
    of = sum(row.files for row in rows.values())
    _note(pair, f"{plural(files, 'version')} of {of} would go, {format_bytes(size)}", as_json=as_json)


def _note(pair: Pair, text: str, *, as_json: bool) -> None:
    if not as_json:
        click.echo(clean(f"# {pair.name}: {text}"))


def _line(pair: Pair, going: Going, name: bytes, why: str, size: int, *, as_json: bool) -> str:
    path, until = join(going.folder, name), _shown(going.moment)
    if not as_json:
        return f"{'expire':<14} {pair.name}  {printable(path)}  ({why}: replaced {until}, {format_bytes(size)})"
    version = going.moment.name.decode("ascii")
    fields = {"pair": pair.name, "action": "expire", "path": printable(path), "bytes": size, "reason": why}
    fields |= {"version": version, "replaced": until}
    if (code := base64_of(path)) is not None:
        fields["path_base64"] = code
    return json.dumps(fields)


def _shown(moment: Moment) -> str:
    return format_timestamp(moment.seconds) or moment.name.decode("ascii")
