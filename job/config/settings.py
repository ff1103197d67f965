"""The configuration in force: plain frozen values, which is all that a cycle needs to know of it.

What may be written, with every key's default, bounds and meaning, is `model.py`'s: it builds these, so nothing here
has a default. A process that is handed one, such as a worker, imports no pydantic.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

PREFIX = "TRUECOPY_"
"""How the names of all variables begin that say something about the configuration."""

OWNER = PREFIX + "CONFIG_OWNER"
"""The variable with the number of a user whose configuration root follows, besides its own."""
_MOST_DIGITS = 10

Checksum = Literal["sha256", "blake3", "md5"]
Compare = Literal["auto", "checksum"]
VerifyCopies = Literal["hash", "readback"]
MirrorCheck = Literal["awake", "asleep"]
LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["json", "text"]
IoPriority = Literal["normal", "low", "idle"]
Specials = Literal["skip", "recreate"]
Landlock = Literal["auto", "off", "required"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One source with its mirror, its unique name and the options in force for it."""

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
    """In bytes a second."""
    audit_interval: float
    """In seconds."""
    mirror_check: MirrorCheck
    cross_mounts: bool
    specials: Specials
    keep_setuid: bool
    keep_security: bool
    reflink: bool

    @property
    def options_key(self) -> str:
        """Which options say how the mirror of an entry is to look; what was done under others is looked at anew."""
        options = {"p": self.specials == "recreate", "s": self.keep_security, "u": self.keep_setuid}
        return "".join(letter for letter, chosen in options.items() if chosen)

    @property
    def options_bytes(self) -> bytes:
        """What decides about a folder besides what is in it."""
        mounts = "" if self.cross_mounts else "x"
        return f"{self.checksum}{self.options_key}{mounts}".encode("ascii")


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsSettings:
    """Where metrics go."""

    enabled: bool
    address: str
    port: int
    textfile: str | None
    pushgateway: str | None
    pushgateway_job: str
    pushgateway_instance: str | None
    pushgateway_username: str | None
    pushgateway_password: str | None = field(repr=False)
    pushgateway_withheld: str
    """Why nothing is pushed, so that the password stays here, and what to do; empty where it may be sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRotate:
    """When a log file gives way to a new one."""

    size: int | None
    """In bytes; None for never."""
    count: int
    """Old files that are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
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
    """In seconds; None for what `schedule` or `sleep_time` say."""
    state_dir: str | None
    workers: int | None
    """Processes of one cycle; None for as many as the machine has cores to give."""
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
        from job.core.timing import parse_schedule  # noqa: PLC0415  # few have a schedule

        return parse_schedule(self.schedule).longest_gap

    @property
    def enabled(self) -> bool:
        """Whether cycles may run."""
        return self.run_enabled == "Y"


def owner_of(environ: Mapping[str, str]) -> int | None:
    """Return the user whose configuration root is to follow; None for nobody, also where it is no number."""
    text = environ.get(OWNER, "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= _MOST_DIGITS else None
