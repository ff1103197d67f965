"""`truecopy approve`: release what the brake holds."""

import time
from contextlib import ExitStack

import click

from job.app.pair_setup import index_to_read, open_state
from job.cli.main import Context, chosen_pairs
from job.config.load import read_config
from job.core.outcome import Refusal, reason_text
from job.engine.brake.stored import StoredHold, stored_hold
from job.errors import Exit, Refused
from job.events.text import clean, plural
from job.fs.dircursor import closing_fd
from job.fs.trusted_path import open_trusted_folder
from job.store.held_plan import approve_plan


@click.command(
    epilog="""\b
Examples:
  truecopy plan --pair photos
  truecopy approve photos
"""
)
@click.argument("pair")
@click.option("--plan", "wanted", metavar="HASH", help="Approve only if the held plan has this hash, as plan shows it.")
@click.pass_obj
def approve(context: Context, *, pair: str, wanted: str | None) -> int:
    """Release what the brake of a pair holds.

    The next cycle of PAIR replaces it. Exactly the changes are released that the last cycle held; what changed in the
    source since is judged anew.

    Exit codes: 0 released, 2 usage or configuration, 4 nothing is held, or the held changes are others by now.
    """
    config = read_config(context.config_path, context.environ).config
    (chosen,) = chosen_pairs(config, (pair,))
    with ExitStack() as tidy:
        try:
            mirror = tidy.enter_context(closing_fd(open_trusted_folder(chosen.dest)))
            state = tidy.enter_context(closing_fd(open_state(config, chosen, mirror)))
            index = index_to_read(f"/proc/self/fd/{state}")
            tidy.callback(index.close)
            hold = stored_hold(index, state)
        except OSError as error:
            hint = "Mount the mirror, and look at `truecopy status`."
            message = f"the state of {chosen.name} cannot be read: {reason_text(error)}"
            raise Refused(Refusal.MIRROR_MISSING, message, hint=hint) from None
        why = _why_not(hold, wanted)
        if not why and hold.plan is not None and approve_plan(state, hold.plan.plan, time.time()):
            files = plural(hold.plan.files, "file")
            click.echo(clean(f"{chosen.name}: {files} of plan {hold.plan.plan} released; the next cycle replaces them"))
            return Exit.OK
    click.echo(clean(f"{chosen.name}: {why or 'the held changes are others by now; look at them again'}"), err=True)
    return Exit.REFUSED


def _why_not(hold: StoredHold, wanted: str | None) -> str:
    """Return why a plan cannot be approved; empty if it can."""
    plan = hold.plan
    if plan is None:
        return "nothing is held"
    if not plan.is_active:
        return f"plan {plan.plan} is approved already; the next cycle carries it out"
    if wanted is not None and wanted != plan.plan:
        return f"the held plan is {plan.plan}; look at it with `truecopy plan`"
    if hold.hash != plan.plan:
        return "what is held is not known exactly; the next cycle tells, then approve it"
    return ""
