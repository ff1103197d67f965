"""`truecopy config`: check or show the configuration, or print its schema."""

import json
from typing import Any

import click

from job.app.output_setup import OUTPUTS, check_outputs, unwritable
from job.cli.main import Context, NamingGroup
from job.config import describe
from job.config.faults import printable
from job.config.load import DescribedConfig, read_settings, written_paths
from job.errors import ConfigError
from job.events.text import plural


@click.group(cls=NamingGroup)
def config() -> None:
    """Check or show the configuration."""


@config.command(
    epilog="""\b
Examples:
  truecopy config check
  truecopy config check --config new.json && mv new.json config/backup_config.json
"""
)
@click.pass_obj
def check(context: Context) -> None:
    """Show every fault of the configuration.

    The exit code is 0 if there is none, and 2 if there are some. Of the disk, only the paths of the configuration, the
    log files and the textfile are looked at. Who else may change the configuration, or read a secret in it, is shown
    as a warning; root does not follow a configuration that others may change.
    """
    try:
        settings = read_settings(context.config_path, context.environ)
    except ConfigError as error:
        raise _with_outputs(context, error) from error
    check_outputs(context.config_path, settings.loaded.config, context.environ, closely=True)
    pairs = settings.loaded.config.effective_pairs
    disabled = "" if settings.loaded.config.enabled else ', disabled (run_enabled is not "Y")'
    click.echo(f"{printable(context.config_path)}: fine, {plural(len(pairs), 'pair')}{disabled}")
    for pair in pairs:
        click.echo(printable(f"  {pair.name}: {pair.source} -> {pair.dest}"))
    for doubt in settings.loaded.doubts:
        click.echo(f"warning: {doubt}", err=True)


@config.command(epilog="Example: truecopy config show --json | jq .keys.sleep_time")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def show(context: Context, *, as_json: bool) -> None:
    """Show the value of each key and where it came from.

    Defaults are shown, too. Secrets are masked.
    """
    settings = read_settings(context.config_path, context.environ)
    values = describe.values_of(settings.written)
    if as_json:
        click.echo(json.dumps(_document(context, settings, values), indent=2))
        return
    rows = [(key, printable(_plain(value)), printable(settings.origins[key])) for key, value in values.items()]
    wide, wider = (max(len(row[column]) for row in rows) for column in (0, 1))
    for key, value, origin in rows:
        click.echo(f"{key:<{wide}}  {value:<{min(wider, 48)}}  {origin}")


@config.command(epilog="Example: truecopy config schema >backup_config.schema.json")
def schema() -> None:
    """Print the JSON Schema of the configuration file."""
    click.echo(describe.schema_text(), nl=False)


def _with_outputs(context: Context, error: ConfigError) -> ConfigError:
    """Add the faults of output paths, so that all faults are shown at once."""
    paths = written_paths(context.config_path, context.environ, OUTPUTS)
    known = [key for key in paths if not any(fault.startswith(key) for fault in error.faults)]
    faults = (*error.faults, *unwritable({key: paths[key] for key in known}))
    if len(faults) == len(error.faults):
        return error
    message = f"{printable(context.config_path)} cannot be used: {len(faults)} faults"
    return ConfigError(message, hint=error.hint, faults=faults)


def _plain(value: Any) -> str:
    return "-" if value is None else json.dumps(value, ensure_ascii=False)


def _document(context: Context, settings: DescribedConfig, values: dict[str, Any]) -> dict[str, Any]:
    return {
        "config": context.config_path,
        "keys": {key: {"value": value, "origin": settings.origins[key]} for key, value in values.items()},
        "pairs": [pair._asdict() for pair in settings.loaded.config.effective_pairs],
    }
