"""`truecopy compare`: list the differences between source and mirror; every byte is read."""

import json
from collections import Counter
from contextlib import ExitStack
from functools import partial

import click

from job.app.preview_setup import open_comparison
from job.app.status import expected_extent
from job.cli.lines import shown_lines
from job.cli.main import Context, chosen_pairs, pair_option, show_each
from job.config.load import read_config
from job.config.settings import Config, Pair
from job.core.entry import base64_of, printable
from job.engine.preflight.identity import is_made_by_next_cycle
from job.engine.preflight.open_pair import open_roots
from job.engine.tree_compare import HARMLESS, Difference, compare
from job.events.text import clean, plural
from job.store.memory import Memory


@click.command(
    name="compare",
    epilog="""\b
Examples:
  truecopy compare
  truecopy compare --pair photos --json >differences.jsonl
""",
)
@pair_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@click.pass_obj
def compare_command(context: Context, *, only: tuple[str, ...], as_json: bool) -> int:
    """Read sources and mirrors and show every difference.

    Every byte of both sides is read; neither the index nor any time is believed, and nothing is changed. Files that
    are only in the mirror are listed as extra and are no difference.

    Exit codes: 0 everything that is to be in the mirrors is there and right, 2 usage or configuration, 3 something
    differs, 4 a pair was refused.
    """
    config = read_config(context.config_path, context.environ).config
    memory = Memory.of(config, context.environ)
    return show_each(chosen_pairs(config, only), partial(_compare_pair, config, memory, as_json=as_json))


def _compare_pair(config: Config, memory: Memory, pair: Pair, *, as_json: bool) -> int:
    counts: Counter[str] = Counter()
    with ExitStack() as tidy:
        will_be_created = is_made_by_next_cycle(pair, memory, config.state_dir)
        source, mirror = tidy.enter_context(open_roots(pair, config.state_dir, memory))
        shown = tidy.enter_context(shown_lines(pair.name, expected_extent(config, pair, mirror), "comparing"))
        view = tidy.enter_context(open_comparison(config, pair, source, mirror, shown.notice))
        if will_be_created and not as_json:
            shown.print(clean(f"# {pair.name}: the mirror {pair.dest} does not exist yet; the next cycle makes it"))
        for point, volume in view.by.items():
            if volume.capabilities.lacks and not as_json:
                where = f" at {printable(point)}" if point else ""
                kind, lacks = volume.capabilities.file_system, ", ".join(volume.capabilities.lacks)
                shown.print(f"# {pair.name}: not compared, since the mirror{where} ({kind}) does not hold it: {lacks}")
        for difference in compare(view):
            counts[difference.what] += 1
            shown.print(_as_json(pair, difference) if as_json else _as_text(pair, difference))
    wrong = sum(count for what, count in counts.items() if what not in HARMLESS)
    if not as_json:
        wrong_counts = ", ".join(f"{count} {what}" for what, count in sorted(counts.items()) if what not in HARMLESS)
        harmless_counts = ", ".join(f"{count} {what}" for what, count in sorted(counts.items()) if what in HARMLESS)
        verdict = plural(wrong, "difference") if wrong else "the mirror is as its source"
        if counts["left_out"] and not wrong:
            verdict += ", but for what is left out"
        verdict += f" ({wrong_counts})" if wrong_counts else ""
        click.echo(f"# {pair.name}: {verdict}" + (f"; no differences: {harmless_counts}" if harmless_counts else ""))
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
