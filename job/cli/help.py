"""`truecopy help`: the help of the program, or of one command."""

import click

from job.cli.context import nearest


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
