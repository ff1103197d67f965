"""`truecopy compare`: what differs between source and mirror now, every byte read."""

import json
from collections import Counter

import click

from job.adapters.settings import read_config
from job.app.comparison import lay_out_comparison
from job.cli.context import Context
from job.core.config.effective import Config, Pair
from job.core.entry import base64_of, printable
from job.core.wording import clean
from job.errors import Exit, Refused
from job.files.pair_records import PairRecords
from job.tasks import first_use
from job.tasks.compare import HARMLESS, Difference, compare
from job.tasks.gate import open_roots


@click.command(name="compare")
@click.option("--pair", "only", metavar="NAME", help="This pair only; all of them otherwise.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@click.pass_obj
def compare_command(context: Context, *, only: str | None, as_json: bool) -> int:
    """Compare sources and mirrors as they are now, every byte read; change nothing.

    Believes neither the index nor any time. Ends with 0 if all that is to be in the mirrors is there and right.
    """
    config = read_config(context.config_path, context.environ).config
    pairs = [pair for pair in config.effective_pairs if only in {None, pair.name}]
    if not pairs:
        names = ", ".join(pair.name for pair in config.effective_pairs)
        raise click.UsageError(f"there is no pair '{only}'; the pairs are: {names}")
    worst = Exit.OK
    records = PairRecords.of(config, context.environ)
    for pair in pairs:
        try:
            found = _compare_pair(config, pair, records, as_json=as_json)
        except Refused as error:
            click.echo(clean(f"{pair.name}: {error.message}"), err=True)
            click.echo(clean(f"    {error.hint}"), err=True)
            worst = Exit.REFUSED
            continue
        if found and worst is Exit.OK:
            worst = Exit.PARTIAL
    return worst


def _compare_pair(config: Config, pair: Pair, records: PairRecords, *, as_json: bool) -> int:
    counts: Counter[str] = Counter()
    if not as_json and first_use.is_due(pair, config.state_dir, records):
        click.echo(clean(f"# {pair.name}: the mirror {pair.dest} does not exist yet; the next cycle makes it"))
    with (
        open_roots(pair, config.state_dir, records) as (source, mirror),
        lay_out_comparison(config, pair, source, mirror) as view,
    ):
        if view.able.lacks and not as_json:
            kind = view.able.file_system
            click.echo(
                f"# {pair.name}: not compared, since the mirror ({kind}) does not hold it: {', '.join(view.able.lacks)}"
            )
        for difference in compare(view):
            counts[difference.what] += 1
            click.echo(_as_json(pair, difference) if as_json else _as_text(pair, difference))
    wrong = sum(count for what, count in counts.items() if what not in HARMLESS)
    if not as_json:
        told = ", ".join(f"{count} {what}" for what, count in sorted(counts.items()))
        verdict = f"{wrong} differences" if wrong else "the mirror is as its source"
        click.echo(f"# {pair.name}: {verdict}" + (f" ({told})" if told else ""))
    return wrong


def _as_text(pair: Pair, difference: Difference) -> str:
    detail = f"  ({clean(difference.detail)})" if difference.detail else ""
    return f"{difference.what:<10} {pair.name}  {printable(difference.path) or '.'}{detail}"


def _as_json(pair: Pair, difference: Difference) -> str:
    fields = {
        "pair": pair.name,
        "what": difference.what,
        "path": printable(difference.path),
        "kind": difference.kind,
        "detail": difference.detail,
    }
    if (code := base64_of(difference.path)) is not None:
        fields["path_base64"] = code
    return json.dumps(fields)
