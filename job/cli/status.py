"""`truecopy status`: show the last cycle of each pair, and the service."""

import json
import os
import sys
import time
from typing import Any

import click

from job.app.status import PairStatus, expected_gap, pair_statuses, sandbox_status
from job.cli.main import Context, chosen_pairs, pair_option, show_error
from job.cli.status_text import Facts, plain_lines, show_table
from job.cli.streams import tolerate_lost_output
from job.config.load import last_good_config, read_config
from job.config.settings import Config
from job.core.counts import HeldPlan
from job.core.entry import base64_of, printable
from job.core.outcome import Result
from job.errors import ConfigError, Exit
from job.events.text import display_text, format_timestamp, time_ago
from job.health import HealthFile, check, next_due

_WORST_FIRST = (Exit.FAILED, Exit.REFUSED, Exit.PARTIAL, Exit.BUSY)


@click.command(
    epilog="""\b
Examples:
  truecopy status
  truecopy status --check --pair photos || echo "look after the backup of photos"
  truecopy status --json | jq '.pairs[] | {pair, verdict, last_success}'
"""
)
@pair_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--check", "checked", is_flag=True, help="Let the exit code tell whether every pair is backed up.")
@click.pass_obj
def status(context: Context, *, only: tuple[str, ...], as_json: bool, checked: bool) -> int:
    """Show the last result of each pair, and the next cycle.

    With --check the exit code is that of the worst pair: 0 its last cycle was a success and the next one is not
    overdue, 1 it failed, was stopped, never ran or is overdue, 3 some entries failed, 4 it was refused or is held, or
    the mirror is read-only now, 75 another instance was at work. A pair is overdue if its last success is longer ago
    than twice the interval of the configuration, plus 15 minutes.

    With a configuration that cannot be used, its faults are shown and then what is known of the last good one; the
    exit code is 2.
    """
    if checked:
        tolerate_lost_output()
    broken, since = None, 0.0
    try:
        config = read_config(context.config_path, context.environ).config
    except ConfigError as error:
        found = last_good_config(context.config_path, context.environ)
        if found is None:
            raise
        config, since = found
        broken = error
        show_error(error)
    config_pairs = chosen_pairs(config, only)
    facts = _facts(context, config, {pair.name for pair in config_pairs})
    if as_json:
        click.echo(json.dumps(_document(facts, broken), indent=2))
    else:
        if broken is not None:
            click.echo(f"\nThe last good configuration was read {time_ago(facts.now - since)}; its pairs:\n")
        _show(facts)
    if broken is not None:
        return broken.exit
    return _worst(facts) if checked else Exit.OK


def _facts(context: Context, config: Config, chosen: set[str]) -> Facts:
    now, health_file = time.time(), HealthFile(context.config_path, context.environ)
    alive, sentence = check(health_file, now)
    pairs = [each for each in pair_statuses(config) if each.name in chosen]
    limit = expected_gap(config, [each.history.duration_seconds for each in pairs])
    late = (each.name for each in pairs if abs(now - each.history.last_success_timestamp_seconds) > limit)
    return Facts(
        now=now,
        alive=alive,
        service=sentence,
        next_due=next_due(health_file) if alive else None,
        disabled="" if config.enabled else config.run_enabled or "empty",
        sandbox=sandbox_status(config),
        pairs=pairs,
        overdue=frozenset(late if config.enabled else ()),
    )


def _show(facts: Facts) -> None:
    if sys.stdout.isatty() and os.environ.get("TERM") != "dumb":
        show_table(facts, sys.stdout)
        return
    for line in plain_lines(facts):
        click.echo(line)


def _worst(facts: Facts) -> Exit:
    codes = {_code(facts, pair) for pair in facts.pairs}
    return next((code for code in _WORST_FIRST if code in codes), Exit.OK)


def _code(facts: Facts, pair: PairStatus) -> Exit:
    result = pair.result
    if pair.trouble or result in {None, Result.STOPPED}:
        return Exit.FAILED
    if result is Result.SUCCESS:
        return Exit.FAILED if pair.name in facts.overdue else Exit.OK
    return result.exit


def _document(facts: Facts, broken: ConfigError | None) -> dict[str, Any]:
    sandbox = facts.sandbox
    return {
        "service": {"alive": facts.alive, "message": facts.service, "next_due": format_timestamp(facts.next_due)},
        "enabled": not facts.disabled,
        "config_error": None
        if broken is None
        else {"error": display_text(broken.message), "faults": [display_text(fault) for fault in broken.faults]},
        "sandbox": {
            "landlock": sandbox.landlock,
            "abi": sandbox.abi,
            "cannot": sandbox.denied,
            "missing": sandbox.missing,
        },
        "pairs": [_pair(facts, each) for each in facts.pairs],
    }


def _pair(facts: Facts, each: PairStatus) -> dict[str, Any]:
    history, tally = each.history, each.history.tally
    trouble = history.trouble
    entries, count = each.extent or (None, None)
    return {
        "pair": each.name,
        "source": each.source,
        "mirror": each.mirror,
        "mirror_state": each.mirror_state,
        "verdict": facts.verdict(each),
        "result": each.result,
        "result_since": format_timestamp(history.result_since_timestamp_seconds),
        "last_attempt": format_timestamp(history.last_attempt_timestamp_seconds),
        "last_success": format_timestamp(history.last_success_timestamp_seconds),
        "next_due": format_timestamp(facts.next_due),
        "overdue": each.name in facts.overdue,
        "duration_seconds": history.duration_seconds,
        "copied": tally.copied,
        "updated": tally.updated,
        "skipped": tally.skipped,
        "failed": tally.failed,
        "failed_by": {str(reason): number for reason, number in tally.failed_by.items()},
        "failing": [_failing(path, reason, error) for path, reason, error in history.failing],
        "bytes_copied": tally.bytes_copied,
        "reason": trouble.reason if trouble else None,
        "error": display_text(trouble.error) if trouble else None,
        "hint": display_text(trouble.hint) if trouble else None,
        "brake": each.has_brake,
        "held": _held(history.hold),
        "entries": entries,
        "bytes": count,
        "free_bytes": each.free,
        "versions": {"files": each.versions[0], "bytes": each.versions[1]},
        "orphans_files": history.orphans_files,
        "orphans_bytes": history.orphans_bytes,
        "file_system": None if each.able is None else each.able._asdict(),
        "mirrors": [
            {
                "id": disk.mirror_id,
                "adopted": disk.adopted,
                "last_success": format_timestamp(disk.last_success),
                "present": disk.is_here,
            }
            for disk in each.disks
        ],
        "left_out": [{"path": printable(path), "file_system": kind} for path, kind in each.mounts],
        "trouble": each.trouble,
    }


def _held(plan: HeldPlan | None) -> dict[str, Any] | None:
    if plan is None:
        return None
    return {
        "reason": plan.reason,
        "files": plan.files,
        "plan": plan.plan,
        "examples": [*plan.examples],
        "since": format_timestamp(plan.since_timestamp_seconds),
        "approved": format_timestamp(plan.approved_timestamp_seconds),
    }


def _failing(path: bytes, reason: str, error: str) -> dict[str, str]:
    fields = {"path": printable(path), "reason": reason, "error": display_text(error)}
    if (code := base64_of(path)) is not None:
        fields["path_base64"] = code
    return fields
