"""`truecopy plan`: the dry run."""

import json
import time

import click

from job.adapters.settings import read_config
from job.app.layout import lay_out_preview
from job.cli.context import Context
from job.core.config.effective import Config, Pair
from job.core.entry import base64_of, printable
from job.core.wording import clean
from job.errors import Exit, Refused
from job.files.pair_records import PairRecords
from job.tasks import first_use
from job.tasks.gate import open_roots
from job.tasks.look import Looked
from job.tasks.overlap import mirror_conflicts
from job.tasks.preview import Planned, preview


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@click.pass_obj
def plan(context: Context, *, as_json: bool) -> int:
    """Tell what the next cycle would do, each line with its reason; change nothing.

    Contents are not read, so what has to be compared first is listed as compare_source or compare_both.
    """
    config = read_config(context.config_path, context.environ).config
    if not config.enabled:
        click.echo(f'# run_enabled is {config.run_enabled!r}: no cycle runs until it is "Y"', err=True)
    worst = Exit.OK
    records = PairRecords.of(config, context.environ)
    conflicts = mirror_conflicts(config.effective_pairs)
    for pair in config.effective_pairs:
        try:
            if pair.name in conflicts:
                raise conflicts[pair.name]
            failed = _plan_pair(config, pair, records, as_json=as_json)
        except Refused as error:
            _print_refusal(pair, error, as_json=as_json)
            worst = Exit.REFUSED
            continue
        if failed and worst is Exit.OK:
            worst = Exit.PARTIAL
    return worst


def _plan_pair(config: Config, pair: Pair, records: PairRecords, *, as_json: bool) -> int:
    entries = size = failed = 0
    if not as_json and first_use.is_due(pair, config.state_dir, records):
        click.echo(clean(f"# {pair.name}: the mirror {pair.dest} does not exist yet; the next cycle makes it"))
    with (
        open_roots(pair, config.state_dir, records) as (source, mirror),
        lay_out_preview(config, pair, source, mirror) as view,
    ):
        for step in preview(view, time.time(), _no_notice):
            entries += step.action != "leave_out"
            size += step.bytes
            failed += step.action in {"fail", "refuse_name"}
            click.echo(_as_json(step) if as_json else _as_text(step))
    if not as_json:
        click.echo(f"# {pair.name}: {entries} entries need work, {size} bytes at most would be read")
    return failed


def _no_notice(found: Looked) -> None:
    del found


def _as_text(step: Planned) -> str:
    return f"{step.action:<14} {step.pair}  {printable(step.path) or '.'}  ({clean(step.reason)})"


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
        click.echo(clean(f"refuse         {pair.name}: {error.message}"))
        click.echo(clean(f"               {error.hint}"))
