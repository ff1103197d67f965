"""The command line: parse, run one command, show its error, give the exit code. The only exit there is."""

import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from job import __version__
from job.cli import streams
from job.cli.context import Context, NamingGroup, show_error
from job.errors import Exit, JobError

DEFAULT_CONFIG = "config/backup_config.json"
_COMMANDS = {
    "run": "job.cli.run:run",
    "plan": "job.cli.plan:plan",
    "compare": "job.cli.compare:compare_command",
    "status": "job.cli.status:status",
    "config": "job.cli.config:config",
    "healthcheck": "job.cli.healthcheck:healthcheck",
    "completion": "job.cli.completion:completion",
    "help": "job.cli.help:help_command",
}
_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class _Commands(NamingGroup):
    """Loads a command when it is asked for: a health check every 30 seconds need not import the engine."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the commands, in the order of the docs."""
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command, and give it the global options, too."""
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        module, _, name = _COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(__import__(module, fromlist=[name]), name)
        _take_global_options(command)
        return command


class _ConfigOption(click.Option):
    """`--config FILE`. After the command it wins over the one before it."""

    def __init__(self, **more: Any) -> None:
        super().__init__(
            ["--config", "config_path"],
            type=click.Path(),
            metavar="FILE",
            help=f"The configuration, JSON or TOML.  [env var: TRUECOPY_CONFIG; default: {DEFAULT_CONFIG}]",
            **more,
        )


def _take_global_options(command: click.Command) -> None:
    """Let a command, and those below it, take every global option. Once for each command of a process."""
    if any(isinstance(param, _ConfigOption) for param in command.params):
        return
    command.context_settings = {**_SETTINGS, **command.context_settings}
    command.params.append(_ConfigOption(expose_value=False, callback=_another_config))
    _version(command)
    if isinstance(command, click.Group):
        for each in command.commands.values():
            _take_global_options(each)


def _another_config(context: click.Context, option: click.Parameter, value: str | None) -> None:
    del option
    if value is not None:
        context.obj = context.obj._replace(config_path=value)


_version = click.version_option(
    __version__, "-V", "--version", prog_name="truecopy", help="Print the version and exit."
)


@click.group(
    cls=_Commands,
    params=[_ConfigOption(envvar="TRUECOPY_CONFIG", default=DEFAULT_CONFIG)],
    context_settings=_SETTINGS,
    epilog="""\b
First steps:
  truecopy config check  find every fault of the configuration
  truecopy plan          show what a backup would do; nothing is changed
  truecopy run --once    back up now
  truecopy status        show the last result of each pair
  truecopy help run      explain a command
""",
)
@_version
@click.pass_context
def truecopy(context: click.Context, config_path: str) -> None:
    """Plain-file backups that prove themselves."""
    context.obj = Context(config_path=config_path, environ=dict(os.environ))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and give its exit code."""
    streams.secure()
    code = _run(arguments)
    try:
        sys.stdout.flush()
    except streams.OutputLost as error:
        show_error(error)
        return error.exit
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
        show_error(error)
        return error.exit
    except Exception as error:  # noqa: BLE001  # a bug, which a person must not meet as a traceback
        show_error(_bug(error))
        return Exit.FAILED
    return code if isinstance(code, int) else Exit.OK


def _bug(error: Exception) -> JobError:
    import traceback  # noqa: PLC0415  # hardly ever needed

    steps = [f"{os.path.basename(step.filename)}:{step.lineno}" for step in traceback.extract_tb(error.__traceback__)]
    message = f"an unexpected error ended the command: {type(error).__name__}: {error}"
    return JobError(message, hint=f"This is a bug; please report it with version {__version__} and: {' '.join(steps)}")
