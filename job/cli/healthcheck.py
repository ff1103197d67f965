"""`truecopy healthcheck`: for the container engine. It reads one small file and loads neither config nor engine."""

import time

import click

from job.cli.context import Context
from job.core.entry import printable
from job.errors import Exit
from job.files.pulse import check, heartbeat_path


@click.command()
@click.pass_obj
def healthcheck(context: Context) -> None:
    """Tell whether the service is alive and not overdue (never whether the last backup succeeded)."""
    healthy, sentence = check(heartbeat_path(context.config_path, context.environ), time.time())
    click.echo(printable(sentence.encode("utf-8", "surrogateescape")))
    raise SystemExit(Exit.OK if healthy else Exit.FAILED)
