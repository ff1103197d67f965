"""`truecopy plan`: the dry run."""

import json
import time
from collections import Counter
from collections.abc import Mapping

import click

from job.app.preview_setup import open_preview
from job.cli.main import Context, chosen_pairs, pair_option
from job.cli.status_text import held_text
from job.config.load import read_config
from job.config.settings import Config, Pair
from job.core.counts import HeldPlan
from job.core.entry import base64_of, printable
from job.engine.dry_run import Planned, preview
from job.engine.preflight.identity import is_made_by_next_cycle
from job.engine.preflight.open_pair import check_writable, open_roots
from job.engine.preflight.overlap import mirror_conflicts
from job.errors import Exit, Refused
from job.events.text import clean, display_text, format_bytes, format_timestamp
from job.store.memory import Memory

_COUNTED = {"fail": "failed", "refuse_name": "failed", "leave_out": "left out", "hold": "held"}
"""What an action counts as; all others are entries that need work."""


@click.command(
    epilog="""\b
Examples:
  truecopy plan
  truecopy plan --pair photos
  truecopy plan --retention
  truecopy plan --json | jq -r 'select(.action == "fail") | .path'
"""
)
@pair_option
@click.option("--retention", is_flag=True, help="Show which versions would be removed, and why, instead.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@click.pass_obj
def plan(context: Context, *, only: tuple[str, ...], retention: bool, as_json: bool) -> int:
    """Show what the next cycle would do; change nothing.

    Each line names an action, the pair, the path and the reason. Contents are not read: what has to be compared first
    is listed as compare_source or compare_both. Files that this user may not read are listed as fail.

    With --retention each line names a version that the next successful cycle would remove, when it was replaced, and
    why: old (by versions.keep), between (two that are kept by count), most (above versions.most).

    A cycle that would replace too much is held by the brake: what it would replace is listed as hold, until
    `truecopy approve`.

    Exit codes: 0 everything can be done, 2 usage or configuration, 3 some entries would fail, 4 a pair would be
    refused or held.
    """
    config = read_config(context.config_path, context.environ).config
    pairs = chosen_pairs(config, only)
    if not config.enabled:
        click.echo(f'# run_enabled is {config.run_enabled!r}: no cycle runs until it is "Y"', err=True)
    worst = Exit.OK
    memory = Memory.of(config, context.environ)
    conflicts = mirror_conflicts(config.effective_pairs)
    for pair in pairs:
        try:
            if pair.name in conflicts:
                raise conflicts[pair.name]
            if retention:
                from job.cli.retention_plan import show  # noqa: PLC0415  # loads more than most plans need

                code = Exit.OK
                show(config, pair, memory, as_json=as_json)
            else:
                code = _plan_pair(config, pair, memory, as_json=as_json)
        except Refused as error:
            _print_refusal(pair, error, as_json=as_json)
            worst = Exit.REFUSED
            continue
        worst = max(worst, code)
    return worst


def _plan_pair(config: Config, pair: Pair, memory: Memory, *, as_json: bool) -> Exit:
    will_be_created = is_made_by_next_cycle(pair, memory, config.state_dir)
    if will_be_created and not as_json:
        click.echo(clean(f"# {pair.name}: the mirror {pair.dest} does not exist yet; the next cycle makes it"))
    counts = Counter[str]()
    with (
        open_roots(pair, config.state_dir, memory) as (source, mirror),
        open_preview(config, pair, source, mirror) as view,
    ):
        if not will_be_created:
            check_writable(pair, mirror)
        _print_hold(pair, view.hold.plan, as_json=as_json)
        for step in preview(view, time.time(), lambda _: None):
            what = _COUNTED.get(step.action, "entries")
            counts[what] += 1
            counts["bytes"] += step.bytes if what == "entries" else 0
            click.echo(_as_json(step) if as_json else _as_text(step))
    if not as_json:
        click.echo(f"# {pair.name}: {_summary(counts)}")
    if counts["held"]:
        return Exit.REFUSED
    return Exit.PARTIAL if counts["failed"] else Exit.OK


def _print_hold(pair: Pair, plan: HeldPlan | None, *, as_json: bool) -> None:
    """Show what the brake holds since an earlier cycle, or that it is off."""
    if pair.brake is None:
        shown: dict[str, object] = {"reason": "off"}
        text = "its brake is off: whatever the source has replaces what the mirror has"
    elif plan is None:
        return
    else:
        shown = {
            "reason": plan.reason,
            "files": plan.files,
            "plan": plan.plan,
            "since": format_timestamp(plan.since_timestamp_seconds),
            "approved": format_timestamp(plan.approved_timestamp_seconds),
            "examples": plan.examples,
        }
        text = held_text(plan, pair.name)
    if as_json:
        click.echo(json.dumps({"pair": pair.name, "action": "brake", **shown}))
        return
    click.echo(clean(f"# {pair.name}: {text}"))
    for path in plan.examples if plan else ():
        click.echo(clean(f"#     {path}"))


def _summary(counts: Mapping[str, int]) -> str:
    entries, failed, held = (counts.get(what, 0) for what in ("entries", "failed", "held"))
    if not entries and not failed and not held:
        return "nothing to do"
    needs = "1 entry needs work" if entries == 1 else f"{entries} entries need work"
    fails = f", {failed} would fail" if failed else ""
    holds = f", {held} would be held by the brake" if held else ""
    return f"{needs}, at most {format_bytes(counts.get('bytes', 0))} would be read{fails}{holds}"


def _as_text(step: Planned) -> str:
    reason = f"{step.reason}, {format_bytes(step.bytes)}" if step.bytes else step.reason
    return f"{step.action:<14} {step.pair}  {printable(step.path) or '.'}  ({clean(reason)})"


def _as_json(step: Planned) -> str:
    fields = {
        "pair": step.pair,
        "action": step.action,
        "path": printable(step.path),
        "kind": step.kind,
        "bytes": step.bytes,
        "reason": step.reason,
    }
    if (code := base64_of(step.path)) is not None:
        fields["path_base64"] = code
    return json.dumps(fields)


def _print_refusal(pair: Pair, error: Refused, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"pair": pair.name, "action": "refuse", "reason": error.reason, "error": error.message}))
    else:
        click.echo(display_text(f"refuse         {pair.name}: {error.message}"))
        click.echo(display_text(f"               {error.hint}"))
