"""The command line: parse, run one command, show its error, give the exit code. The only exit there is."""

import os
import sys
from collections.abc import Sequence

import click

from job import __version__
from job.cli.context import Context
from job.errors import ConfigError, Exit, JobError

DEFAULT_CONFIG = "config/backup_config.json"
_COMMANDS = {
    "run": "job.cli.run:run",
    "plan": "job.cli.plan:plan",
    "compare": "job.cli.compare:compare_command",
    "status": "job.cli.status:status",
    "config": "job.cli.config:config",
    "healthcheck": "job.cli.healthcheck:healthcheck",
}


class _Commands(click.Group):
    """Loads a command when it is asked for: a health check every 30 seconds need not import the engine."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the commands, in the order of the docs."""
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        module, _, name = _COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(__import__(module, fromlist=[name]), name)
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="truecopy")
@click.option(
    "--config",
    "config_path",
    metavar="FILE",
    envvar="TRUECOPY_CONFIG",
    default=DEFAULT_CONFIG,
    show_default=True,
    show_envvar=True,
    help="The configuration, JSON or TOML.",
)
@click.pass_context
def truecopy(context: click.Context, config_path: str) -> None:
    """Plain-file backups that prove themselves."""
    context.obj = Context(config_path=config_path, environ=dict(os.environ))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and give its exit code."""
    code = _run(arguments)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _forget_stdout()
    return code


def _run(arguments: Sequence[str] | None) -> int:
    try:
        code = truecopy.main(args=arguments, prog_name="truecopy", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return Exit.USAGE
    except (click.Abort, KeyboardInterrupt):
        return Exit.INTERRUPTED
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else Exit.FAILED
    except JobError as error:
        _show(error)
        return error.exit
    except BrokenPipeError:
        _forget_stdout()
        return Exit.OK
    return code if isinstance(code, int) else Exit.OK


def _forget_stdout() -> None:
    """Whoever read our output went away, as `head` does; the interpreter must not complain about it at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _show(error: JobError) -> None:
    from job.core.wording import clean  # noqa: PLC0415  # a health check has nothing to say with it

    click.echo(clean(f"error: {error.message}"), err=True)
    for fault in error.faults if isinstance(error, ConfigError) else ():
        click.echo(clean(f"  - {fault}"), err=True)
    if error.hint:
        click.echo(clean(f"hint: {error.hint}"), err=True)
