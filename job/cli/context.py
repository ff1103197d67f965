"""What every command is given."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Context:
    """The global options, unread: a command opens the config itself, if it needs it."""

    config_path: str
    environ: Mapping[str, str]
