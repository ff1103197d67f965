"""`truecopy adopt`: use the mirror at the path of a pair from now on."""

import json
import time

import click

from job.cli.main import Context, chosen_pairs, complete_pairs
from job.config.load import read_config
from job.core.mirror_identity import MirrorVerdict
from job.engine.preflight.adopt import adopt
from job.engine.preflight.overlap import mirror_conflicts
from job.errors import Exit
from job.events.text import clean
from job.store.memory import Memory

_IN_WORDS = {
    MirrorVerdict.GO_ON: "it was a mirror of the pair already",
    MirrorVerdict.ADOPT: "it is empty, and the next cycle fills it",
    MirrorVerdict.COMPARE: "the next cycle compares all of its contents",
}


@click.command(
    name="adopt",
    epilog="""\b
Examples:
  truecopy adopt photos
  truecopy adopt photos --take-over
""",
)
@click.argument("pair", metavar="PAIR", shell_complete=complete_pairs)
@click.option("--take-over", is_flag=True, help="Also if it is the mirror of another pair or source.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def adopt_command(context: Context, *, pair: str, take_over: bool, as_json: bool) -> int:
    """Use what is mounted at the mirror of PAIR from now on.

    A new pair needs no command: its first cycle adopts the mirror. Once a mirror is known, another disk in its place is
    refused until it is adopted. Several disks may be adopted, and take turns: each has its own index and age. Nothing
    in the mirror is changed or deleted; the next cycle compares all of it and believes nothing.

    Exit codes: 0 adopted, 2 usage or configuration, 4 refused, with the next step, 75 an instance is at work on it.
    """
    config = read_config(context.config_path, context.environ).config
    (chosen,) = chosen_pairs(config, [pair])
    conflicts = mirror_conflicts(config.effective_pairs)
    if chosen.name in conflicts:
        raise conflicts[chosen.name]
    memory = Memory.of(config, context.environ)
    adopted = adopt(chosen, config.state_dir, memory, time.time(), take_over=take_over)
    if as_json:
        outcome = {"pair": chosen.name, "mirror": chosen.dest, "mirror_id": adopted.mirror_id}
        click.echo(json.dumps(outcome | {"outcome": adopted.verdict.value}))
    else:
        click.echo(clean(f"{chosen.name}: {chosen.dest} is adopted; {_IN_WORDS[adopted.verdict]}"))
    if memory.base is None:
        click.echo(f"warning: it cannot be remembered: {memory.why_none}", err=True)
    return Exit.OK
