"""The command line: parse, run one command, print its error, return the exit code. Nothing else exits.

It holds the context and the options that commands share, and two small commands: `help` and `completion` (for shells).
"""

import gc
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from job import __version__
from job.cli import streams
from job.errors import ConfigError, Exit, JobError, Refused

if TYPE_CHECKING:
    from job.config.settings import Config, Pair

_Function = TypeVar("_Function", bound=Callable[..., Any])


class Context(NamedTuple):
    """The global options; a command reads the configuration itself if it needs it."""

    config_path: str
    environ: Mapping[str, str]


class NamingGroup(click.Group):
    """A group of commands that suggests the nearest one for an unknown name."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command by its name. Raises `click.UsageError` for an unknown one."""
        name, known = args[0], self.list_commands(ctx)
        if name not in known and not name.startswith("-") and not ctx.resilient_parsing:
            near = nearest(name, known)
            meant = f"Did you mean {near!r}?" if near else f"The commands are: {', '.join(known)}."
            raise click.UsageError(f"No such command {name!r}. {meant}", ctx)
        return super().resolve_command(ctx, args)


def pair_option(command: _Function) -> _Function:
    """Add the repeatable option `--pair NAME` as the argument `only`."""
    return click.option(
        "--pair",
        "only",
        metavar="NAME",
        multiple=True,
        shell_complete=complete_pairs,
        help="This pair only. Can be given several times; the default is every pair.",
    )(command)


def chosen_pairs(config: "Config", only: Sequence[str]) -> "tuple[Pair, ...]":
    """Return the pairs with these names in the order of the configuration; every pair for no names.

    Raises `click.UsageError` for an unknown name, with the nearest and all known ones.
    """
    pairs = config.effective_pairs
    check_names(only, [pair.name for pair in pairs])
    return tuple(pair for pair in pairs if not only or pair.name in only)


def check_names(only: Sequence[str], known: Sequence[str]) -> None:
    """Raise `click.UsageError` for an unknown name of a pair."""
    from job.events.text import clean  # noqa: PLC0415  # only for a mistake

    for name in only:
        if name not in known:
            near = nearest(name, known)
            meant = f" Did you mean '{near}'?" if near else ""
            raise click.UsageError(
                f"There is no pair '{clean(name)}'.{meant} The pairs are: {', '.join(known) or 'none'}."
            )


def nearest(wanted: str, known: Sequence[str]) -> str:
    """Return the most similar known name; empty if none is similar."""
    from difflib import get_close_matches  # noqa: PLC0415  # only for a mistake

    return next(iter(get_close_matches(wanted[:100], known, n=1, cutoff=0.5)), "")


def show_refusal(pair: "Pair", error: JobError) -> None:
    """Print on standard error why a pair was refused, and the next step."""
    from job.events.text import display_text  # noqa: PLC0415  # a health check does not need it

    click.echo(display_text(f"{pair.name}: {error.message}"), err=True)
    click.echo(display_text(f"    {error.hint}"), err=True)


def show_each(pairs: Iterable["Pair"], show: Callable[["Pair"], int]) -> Exit:
    """Show each pair, and why others are refused; `show` returns how much is wrong with one. Returns the exit code."""
    worst = Exit.OK
    for pair in pairs:
        try:
            wrong = show(pair)
        except Refused as error:
            show_refusal(pair, error)
            worst = Exit.REFUSED
            continue
        if wrong and worst is Exit.OK:
            worst = Exit.PARTIAL
    return worst


def show_error(error: JobError) -> None:
    """Print an error with its faults and hint on standard error; nothing for an error without a message."""
    from job.events.text import display_text  # noqa: PLC0415  # a health check does not need it

    if not error.message:
        return
    click.echo(display_text(f"error: {error.message}"), err=True)
    for fault in error.faults if isinstance(error, ConfigError) else ():
        click.echo(display_text(f"  - {fault}"), err=True)
    if error.hint:
        click.echo(display_text(f"hint: {error.hint}"), err=True)


def complete_pairs(context: click.Context, _: click.Parameter, begun: str) -> list[str]:
    """Complete the name of a pair in a shell; nothing if the configuration cannot be used."""
    from job.config.load import read_config  # noqa: PLC0415  # not every command reads the configuration

    path = context.params.get("config_path") or context.find_root().params["config_path"]
    try:
        config = read_config(path, os.environ).config
    except ConfigError:
        return []
    return [pair.name for pair in config.effective_pairs if pair.name.startswith(begun)]


DEFAULT_CONFIG = "config/backup_config.json"
_COMMANDS = {
    "run": "job.cli.run:run",
    "plan": "job.cli.plan:plan",
    "approve": "job.cli.approve:approve",
    "compare": "job.cli.compare:compare_command",
    "restore": "job.cli.restore:restore",
    "versions": "job.cli.versions:versions",
    "explain": "job.cli.explain:explain_command",
    "orphans": "job.cli.orphans:orphans",
    "status": "job.cli.status:status",
    "adopt": "job.cli.adopt:adopt_command",
    "config": "job.cli.config:config",
    "healthcheck": "job.cli.healthcheck:healthcheck",
    "completion": "job.cli.main:completion",
    "help": "job.cli.main:help_command",
}
_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class _Commands(NamingGroup):
    """Imports a command on demand: a health check every 30 seconds does not import the engine."""

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
    """Add the global options to a command and its subcommands, once in a process."""
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
    """Run a command line and return its exit code."""
    gc.set_threshold(50_000, 20, 50)  # a start makes thousands of objects and no garbage
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
    except Exception as error:  # noqa: BLE001  # a bug is shown without a traceback
        show_error(_bug(error))
        return Exit.FAILED
    return code if isinstance(code, int) else Exit.OK


def _bug(error: Exception) -> JobError:
    import traceback  # noqa: PLC0415  # for bugs only

    steps = [f"{os.path.basename(step.filename)}:{step.lineno}" for step in traceback.extract_tb(error.__traceback__)]
    message = f"an unexpected error ended the command: {type(error).__name__}: {error}"
    return JobError(message, hint=f"This is a bug; please report it with version {__version__} and: {' '.join(steps)}")


@click.command(name="help", epilog="Example: truecopy help config show")
@click.argument("command", nargs=-1)
@click.pass_context
def help_command(context: click.Context, *, command: tuple[str, ...]) -> None:
    """Explain a command, as `truecopy COMMAND --help` does."""
    place = context.find_root()
    for name in command:
        group = place.command
        found = group.get_command(place, name) if isinstance(group, click.Group) else None
        if found is None:
            known = group.list_commands(place) if isinstance(group, click.Group) else []
            near = nearest(name, known)
            meant = f" Did you mean {near!r}?" if near else ""
            raise click.UsageError(f"No such command '{' '.join(command)}'.{meant}", context)
        place = click.Context(found, info_name=name, parent=place, **found.context_settings)
    click.echo(place.get_help())


@click.command(
    epilog="""\b
Install it once:
  bash  truecopy completion bash >~/.local/share/bash-completion/completions/truecopy
  zsh   truecopy completion zsh >"${fpath[1]}/_truecopy"
  fish  truecopy completion fish >~/.config/fish/completions/truecopy.fish

\b
Or, for the shell at hand only:
  eval "$(truecopy completion bash)"
"""
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, *, shell: str) -> None:
    """Print the completion script of a shell.

    With it the shell completes commands, options and names of pairs. Bash 4.4 or newer, zsh or fish. The folder of
    the script has to exist; new shells find the script there.
    """
    from click.shell_completion import get_completion_class  # noqa: PLC0415  # for this command only

    kind = get_completion_class(shell)
    if kind is None:
        raise AssertionError(shell)
    script = kind(context.find_root().command, {}, "truecopy", "_TRUECOPY_COMPLETE")
    # Not `kind.source()`: it starts bash to check its version, and an image may have none.
    click.echo(script.source_template % script.source_vars())
