"""`truecopy explain`: which rule includes a path, what is kept of it, why it failed, and what the next cycle does."""

import json
from typing import Any
from zoneinfo import ZoneInfo

import click

from job.app.explanation import Explanation, explain
from job.cli.kept_paths import iso_seconds, paths_by_pair, shown_seconds
from job.cli.main import Context, chosen_pairs, pair_option
from job.config.load import read_config
from job.config.settings import Pair
from job.core.entry import Kind, base64_of, printable
from job.core.restore_plan import Kept
from job.engine.restore.kept import Content
from job.errors import Exit
from job.events.text import clean, display_text, format_bytes, plural
from job.store.memory import Memory


@click.command(
    name="explain",
    epilog="""\b
Examples:
  truecopy explain documents/report.odt
  truecopy explain --pair photos --json 2024/a.raw | jq -r .next
""",
)
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=click.Path())
@pair_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@click.pass_obj
def explain_command(context: Context, *, paths: tuple[str, ...], only: tuple[str, ...], as_json: bool) -> int:
    """Explain what happens to a file or folder, and why.

    That is the rule that decides about it, its copy, its versions, its failure in the last cycle and what the next
    one would do. A PATH is below the source, or a whole path of the source or the mirror. Nothing is changed; the
    source is scanned, as by `truecopy plan`.

    Exit codes: 0 explained, 2 usage or configuration, 4 the next cycle of the pair would be refused.
    """
    config = read_config(context.config_path, context.environ).config
    zone, memory = ZoneInfo(config.timezone), Memory.of(config, context.environ)
    worst = Exit.OK
    for pair, of_pair in paths_by_pair(config, chosen_pairs(config, only), paths):
        for path in of_pair:
            if not path:
                raise click.UsageError(f"Write a path below the source of {pair.name}.")
            found = explain(config, pair, path, memory)
            if found.refusal is not None:
                worst = Exit.REFUSED
            if as_json:
                click.echo(json.dumps(_document(pair, found, zone)))
            else:
                for title, text in _facts(pair, found, zone):
                    click.echo(display_text(f"{title:<10} {text}"))
    return worst


def _facts(pair: Pair, found: Explanation, zone: ZoneInfo) -> list[tuple[str, str]]:
    return [
        ("path", f"{printable(found.path)}, of {pair.name}"),
        ("source", _source(found, zone)),
        ("rule", _rule(found)),
        ("mirror", _mirror(found, zone)),
        ("verified", _verified(found, zone)),
        ("versions", _versions(found, zone)),
        ("failure", _failure(found)),
        ("next", _next(pair, found)),
    ]


def _source(found: Explanation, zone: ZoneInfo) -> str:
    if found.source_trouble:
        return f"unknown: {found.source_trouble}"
    if found.source is None:
        return "does not have it"
    if found.source.kind is Kind.FOLDER:
        return "a folder"
    size = f", {format_bytes(found.source.size)}" if found.source.kind is Kind.FILE else ""
    return f"a {found.source.kind}{size}, last changed {shown_seconds(found.source.mtime_ns / 1e9, zone)}"


def _rule(found: Explanation) -> str:
    if found.is_reserved:
        return "its name is reserved for Truecopy"
    if found.rule is None:
        return "included, as no pattern matches it"
    verb = "excluded" if found.rule.excludes else "included"
    of = "" if found.rule.path == found.path else f", which matches {printable(found.rule.path)}"
    return f"{verb} by the pattern {clean(found.rule.pattern)!r}{of}"


def _own(found: Explanation) -> Content | None:
    return next((each for each in found.contents if each.kept.moment is None), None)


def _mirror(found: Explanation, zone: ZoneInfo) -> str:
    own = _own(found)
    if found.mirror_trouble:
        return f"unknown: {found.mirror_trouble}"
    if own is None:
        return "does not have it"
    if own.entry.kind is Kind.FOLDER:
        return "a folder"
    since = shown_seconds(own.kept.since, zone)
    if not own.is_as_recorded:
        return f"a {own.entry.kind}, changed by another program since it was copied"
    return f"a {own.entry.kind}, copied {since}; {own.checksum or 'no checksum is recorded'}"


def _verified(found: Explanation, zone: ZoneInfo) -> str:
    own = _own(found)
    if own is None or not own.checksum:
        return "never"
    return f"when it was copied ({shown_seconds(own.kept.since, zone)})"


def _kept(found: Explanation) -> list[Kept]:
    """Return the versions of a path; a version folder that has its entries is none."""
    kept = [each.kept for each in found.contents if each.kept.moment is not None]
    return [each for each in kept if each.kind is not Kind.FOLDER]


def _versions(found: Explanation, zone: ZoneInfo) -> str:
    kept = _kept(found)
    if not kept:
        of_entries = any(each.kept.moment is not None for each in found.contents)
        return "of entries in it; truecopy versions lists them" if of_entries else "none are kept"
    return f"{plural(len(kept), 'version')}, the last until {shown_seconds(max(each.end for each in kept), zone)}"


def _failure(found: Explanation) -> str:
    if found.failure is None:
        return "none in the last cycle"
    of = "" if found.failure.path == found.path else f"{printable(found.failure.path) or 'the root'}: "
    return f"{of}{found.failure.reason}: {clean(found.failure.error)}"


def _next(pair: Pair, found: Explanation) -> str:
    if found.refusal is not None:
        return f"refused: {found.refusal.message}"
    steps = [f"{each.action} ({clean(each.reason)})" for each in found.planned]
    if found.below:
        steps.append(f"{plural(found.below, 'entry', 'entries')} below it")
    if steps:
        return "; ".join(steps)
    if found.rule is not None and found.rule.excludes:
        return "nothing: it is excluded"
    if found.source is None and _own(found) is not None and pair.on_source_delete == "retire":
        return f"nothing: it left the source, and is retired once it is missing for {clean(pair.retire_after)}"
    if found.source is None:
        return "nothing: what is not in the source stays as it is in the mirror"
    return "nothing: it is unchanged"


def _document(pair: Pair, found: Explanation, zone: ZoneInfo) -> dict[str, Any]:
    own, kept = _own(found), _kept(found)
    fields: dict[str, Any] = {
        "pair": pair.name,
        "path": printable(found.path),
        "source": None if found.source is None else str(found.source.kind),
        "included": not (found.is_reserved or (found.rule is not None and found.rule.excludes)),
        "pattern": None if found.rule is None else clean(found.rule.pattern),
        "mirror": None if own is None else str(own.entry.kind),
        "copied": None if own is None else iso_seconds(own.kept.since, zone),
        "checksum": (own.checksum or None) if own else None,
        "as_recorded": own is not None and own.is_as_recorded,
        "versions": len(kept),
        "last_version_until": iso_seconds(max((each.end for each in kept), default=None), zone),
        "failure": None if found.failure is None else found.failure.reason,
        "error": None if found.failure is None else clean(found.failure.error),
        "next": clean(_next(pair, found)),
    }
    if (code := base64_of(found.path)) is not None:
        fields["path_base64"] = code
    return fields
