"""What every command is given."""

from collections.abc import Mapping
from typing import NamedTuple


class Context(NamedTuple):
    """The global options, unread: a command opens the config itself, if it needs it."""

    config_path: str
    environ: Mapping[str, str]
