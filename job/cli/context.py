"""What every command is given, and what several of them do with it."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from job.errors import ConfigError, JobError

if TYPE_CHECKING:
    from job.config.settings import Config, Pair

_Function = TypeVar("_Function", bound=Callable[..., Any])


class Context(NamedTuple):
    """The global options, unread: a command opens the config itself, if it needs it."""

    config_path: str
    environ: Mapping[str, str]


class NamingGroup(click.Group):
    """A group of commands that names the nearest one for a name that it does not know."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that is meant. Raises `click.UsageError` for an unknown one."""
        name, known = args[0], self.list_commands(ctx)
        if name not in known and not name.startswith("-") and not ctx.resilient_parsing:
            near = nearest(name, known)
            meant = f"Did you mean {near!r}?" if near else f"The commands are: {', '.join(known)}."
            raise click.UsageError(f"No such command {name!r}. {meant}", ctx)
        return super().resolve_command(ctx, args)


def pair_option(command: _Function) -> _Function:
    """Add `--pair NAME`, which may be given several times, as the argument `only`."""
    return click.option(
        "--pair",
        "only",
        metavar="NAME",
        multiple=True,
        shell_complete=_names_of_pairs,
        help="This pair only. Can be given several times; the default is every pair.",
    )(command)


def chosen_pairs(config: "Config", only: Sequence[str]) -> "tuple[Pair, ...]":
    """Give the pairs with these names, in the order of the configuration; every pair if there are no names.

    Raises `click.UsageError` for an unknown name, which names the nearest and all that are known.
    """
    pairs = config.effective_pairs
    check_names(only, [pair.name for pair in pairs])
    return tuple(pair for pair in pairs if not only or pair.name in only)


def check_names(only: Sequence[str], known: Sequence[str]) -> None:
    """Raise `click.UsageError` for a name of a pair that is not known."""
    from job.events.text import clean  # noqa: PLC0415  # only for a mistake

    for name in only:
        if name not in known:
            near = nearest(name, known)
            meant = f" Did you mean '{near}'?" if near else ""
            raise click.UsageError(
                f"There is no pair '{clean(name)}'.{meant} The pairs are: {', '.join(known) or 'none'}."
            )


def nearest(wanted: str, known: Sequence[str]) -> str:
    """Give the known name that was probably meant; empty if none is like it."""
    from difflib import get_close_matches  # noqa: PLC0415  # only for a mistake

    return next(iter(get_close_matches(wanted[:100], known, n=1, cutoff=0.5)), "")


def show_error(error: JobError) -> None:
    """Print an error with all its faults, and the next step, on standard error. One without a message is not shown."""
    from job.events.text import told  # noqa: PLC0415  # a health check has nothing to say with it

    if not error.message:
        return
    click.echo(told(f"error: {error.message}"), err=True)
    for fault in error.faults if isinstance(error, ConfigError) else ():
        click.echo(told(f"  - {fault}"), err=True)
    if error.hint:
        click.echo(told(f"hint: {error.hint}"), err=True)


def _names_of_pairs(context: click.Context, _: click.Parameter, begun: str) -> list[str]:
    """Complete the name of a pair in a shell; nothing where the configuration cannot be used."""
    from job.config.load import read_config  # noqa: PLC0415  # not every command reads the configuration

    path = context.params.get("config_path") or context.find_root().params["config_path"]
    try:
        config = read_config(path, os.environ).config
    except ConfigError:
        return []
    return [pair.name for pair in config.effective_pairs if pair.name.startswith(begun)]
