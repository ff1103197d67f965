"""`truecopy status`: the last cycle of each pair, and the service."""

import json
import time
from datetime import UTC, datetime
from typing import Any

import click

from job.adapters.settings import read_config
from job.app.report import PairStatus, WallStatus, pair_statuses, wall_status
from job.cli.context import Context
from job.core.capabilities import Capabilities
from job.core.entry import printable
from job.core.left_out import file_system_of
from job.core.wording import clean
from job.files.pulse import check, heartbeat_path, next_due


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def status(context: Context, *, as_json: bool) -> None:
    """Tell how the last cycle of each pair ended, when it last succeeded, and when the next is due."""
    config = read_config(context.config_path, context.environ).config
    path = heartbeat_path(context.config_path, context.environ)
    alive, sentence = check(path, time.time())
    due = next_due(path) if alive else None
    pairs, wall = pair_statuses(config), wall_status(config)
    if as_json:
        service = {"alive": alive, "message": sentence, "next_due": _moment(due)}
        walled = {"landlock": wall.landlock, "abi": wall.abi, "cannot": wall.walled, "missing": wall.missing}
        document = {"service": service, "wall": walled, "pairs": [_document(each) for each in pairs]}
        click.echo(json.dumps(document, indent=2))
        return
    click.echo(f"service: {clean(sentence)}")
    click.echo(f"wall: {_wall_sentence(wall)}")
    for each in pairs:
        click.echo(f"{each.name}: {_sentence(each)}")
        click.echo(clean(f"    {each.source} -> {each.mirror}"))
        if each.able is not None:
            click.echo(f"    {_mirror_sentence(each.able)}")
        for point, kind in each.mounts:
            click.echo(f"    left out of the source: {printable(point)} ({file_system_of(kind)}; see cross_mounts)")
        if each.trouble:
            click.echo(f"    its history cannot be read: {clean(each.trouble)}")


def _sentence(each: PairStatus) -> str:
    history = each.history
    if history.result is None:
        return "no cycle yet"
    tally = history.tally
    counts = f"{tally.copied} copied, {tally.updated} updated, {tally.skipped} skipped, {tally.failed} failed"
    success = _moment(history.last_success_timestamp_seconds) or "never"
    return (
        f"{history.result} at {_moment(history.last_attempt_timestamp_seconds)}"
        f" ({counts}; {history.duration_seconds:.1f} s); last success: {success}"
    )


def _wall_sentence(wall: WallStatus) -> str:
    if wall.missing:
        return f"none, {wall.missing}"
    return f"work on a pair cannot {', nor '.join(wall.walled)} (Landlock, version {wall.abi})"


def _mirror_sentence(able: Capabilities) -> str:
    kind = able.file_system or "its file system"
    if not able.lacks:
        return f"the mirror ({kind}) holds everything"
    return f"the mirror ({kind}) does not hold: {', '.join(able.lacks)}"


def _document(each: PairStatus) -> dict[str, Any]:
    history, tally = each.history, each.history.tally
    return {
        "pair": each.name,
        "source": each.source,
        "mirror": each.mirror,
        "result": history.result,
        "last_attempt": _moment(history.last_attempt_timestamp_seconds),
        "last_success": _moment(history.last_success_timestamp_seconds),
        "duration_seconds": history.duration_seconds,
        "copied": tally.copied,
        "updated": tally.updated,
        "skipped": tally.skipped,
        "failed": tally.failed,
        "bytes_copied": tally.bytes_copied,
        "file_system": None if each.able is None else each.able._asdict(),
        "left_out": [{"path": printable(path), "file_system": kind} for path, kind in each.mounts],
        "trouble": each.trouble,
    }


def _moment(seconds: float | None) -> str | None:
    """Write a moment as RFC 3339 in UTC; None for never."""
    if not seconds:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
