"""`truecopy healthcheck`, for container engines: reads one small file, and neither configuration nor engine."""

import time

import click

from job.cli.main import Context
from job.cli.streams import tolerate_lost_output
from job.core.entry import printable
from job.errors import Exit
from job.health import HealthFile, check


@click.command(epilog="Example: truecopy healthcheck || echo 'the service hangs'")
@click.pass_obj
def healthcheck(context: Context) -> None:
    """Check that the service is alive and not overdue.

    The exit code is 0 if it is, and 1 if it is not. Whether the last backup succeeded does not matter here: a restart
    would not help; see `truecopy status --check` for that.
    """
    tolerate_lost_output()
    healthy, sentence = check(HealthFile(context.config_path, context.environ), time.time())
    click.echo(printable(sentence.encode("utf-8", "surrogateescape")))
    raise SystemExit(Exit.OK if healthy else Exit.FAILED)
