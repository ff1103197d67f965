"""The settings of the job: plain frozen values, built by `model.py`, which has defaults, bounds and meanings.

Processes that only use settings, such as workers, do not import pydantic.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

PREFIX = "TRUECOPY_"
"""Prefix of the environment variables of the configuration."""

OWNER = PREFIX + "CONFIG_OWNER"
"""Variable with the number of a user whose configuration root accepts, besides its own."""
_MOST_DIGITS = 10

Checksum = Literal["sha256", "blake3", "md5"]
Compare = Literal["auto", "checksum"]
VerifyCopies = Literal["hash", "readback"]
MirrorCheck = Literal["awake", "asleep"]
LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["json", "text"]
IoPriority = Literal["normal", "low", "idle"]
Specials = Literal["skip", "recreate"]
OnSourceDelete = Literal["keep", "retire"]
Landlock = Literal["auto", "off", "required"]


class VersionsSettings(NamedTuple):
    """Which replaced contents are kept."""

    keep: str
    """How long; `fields.keep` parses it."""
    most: str
    """How much space they may take together; `fields.most_versions` parses it."""
    exclude: tuple[str, ...]
    """Patterns of entries whose replaced contents are not kept."""

    @property
    def rule(self) -> str:
        """What decides which versions expire; a new rule is reported before it is applied."""
        return f"{self.keep}\n{self.most}"


class BrakeSettings(NamedTuple):
    """When the destructive part of a cycle is held."""

    share: float
    """More than this share of the known files..."""
    files: int
    """...and more than this number."""
    canary: tuple[str, ...]
    """Paths in the source of files that nobody changes."""
    exclude: tuple[str, ...]
    """Patterns of entries that are neither counted nor held."""


class Pair(NamedTuple):
    """One source with its mirror, its unique name and its options."""

    name: str
    source: str
    dest: str
    exclude: tuple[str, ...]
    allow_empty: bool
    must_exist: tuple[str, ...]
    """Paths below the source."""
    checksum: Checksum
    compare: Compare
    verify_copies: VerifyCopies
    rate_limit: int | None
    """In bytes per second."""
    audit_interval: float
    """In seconds."""
    mirror_check: MirrorCheck
    cross_mounts: bool
    specials: Specials
    keep_setuid: bool
    keep_security: bool
    reflink: bool
    on_source_delete: OnSourceDelete
    retire_after: str
    """How long an entry has been missing in the source before it is retired; `fields.waiting_time` parses it."""
    versions: VersionsSettings | None
    """None if replaced contents are not kept."""
    brake: BrakeSettings | None
    """None if nothing is ever held."""

    @property
    def options_key(self) -> str:
        """The options that determine mirror entries; entries written under another key are examined again."""
        return "p" * (self.specials == "recreate") + "s" * self.keep_security + "u" * self.keep_setuid

    @property
    def options_bytes(self) -> bytes:
        """All options that folder fingerprints depend on."""
        mounts = "" if self.cross_mounts else "x"
        return f"{self.checksum}{self.options_key}{mounts}".encode("ascii")


class MetricsSettings(NamedTuple):
    """Where metrics go."""

    enabled: bool
    address: str
    port: int
    textfile: str | None
    pushgateway: str | None
    pushgateway_job: str
    pushgateway_instance: str | None
    pushgateway_username: str | None
    pushgateway_password: str | None
    pushgateway_withheld: str
    """Why nothing is pushed, as the password must not be sent, and the next step; empty if it may be."""

    def __repr__(self) -> str:
        """Show no value: one is a password."""
        return "MetricsSettings(...)"


class LogRotate(NamedTuple):
    """Rotation of log files."""

    size: int | None
    """In bytes; None for never."""
    kept: int
    """Number of old files."""


class Config(NamedTuple):
    """The whole configuration."""

    run_enabled: str
    effective_pairs: tuple[Pair, ...]
    log_file: str | None
    error_log_file: str | None
    log_level: LogLevel
    log_format: LogFormat | None
    log_rotate: LogRotate
    idle_log_interval: float
    """In seconds; 0 to log every cycle."""
    sleep_time: float
    """In seconds."""
    schedule: str | None
    timezone: str
    jitter: float
    """In seconds."""
    run_at_start: bool
    expected_interval: float | None
    """In seconds; None for that of `schedule` or `sleep_time`."""
    state_dir: str | None
    workers: int | None
    """Processes of one cycle; None for the number of available cores."""
    workers_from: int
    io_priority: IoPriority
    stall_timeout: float
    """In seconds; 0 for never."""
    landlock: Landlock
    metrics: MetricsSettings

    @property
    def longest_interval(self) -> float:
        """The longest time between the starts of two cycles, in seconds."""
        if self.expected_interval is not None:
            return self.expected_interval
        if self.schedule is None:
            return self.sleep_time
        from job.core.timing import parse_schedule  # noqa: PLC0415  # most configurations have no schedule

        return parse_schedule(self.schedule).longest_gap

    @property
    def enabled(self) -> bool:
        """Whether cycles may run."""
        return self.run_enabled == "Y"


def owner_of(environ: Mapping[str, str]) -> int | None:
    """Return the user whose configuration root accepts; None if not set, or not a number."""
    text = environ.get(OWNER, "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= _MOST_DIGITS else None
