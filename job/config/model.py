"""What may be written in a configuration: every key, its type, default, bounds and meaning.

The table in `config/README.md` and `config/backup_config.schema.json` are generated from this file; nothing about a
key is written twice. No file is read here: `config/load.py` gathers the mapping, `faults.py` words what is wrong.
What is in force, once it is found valid, is a plain value of `effective.py`.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    SecretStr,
    StringConstraints,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from job.config import consistency, fields
from job.config.consistency import Conflict, conflicts
from job.config.fields import Words, byte_count, seconds
from job.config.settings import (
    Checksum,
    Compare,
    Config,
    IoPriority,
    Landlock,
    LogFormat,
    LogLevel,
    LogRotate,
    MetricsSettings,
    MirrorCheck,
    Pair,
    Specials,
    VerifyCopies,
)

PairName = Annotated[str, StringConstraints(pattern=consistency.NAME_PATTERN), Words("name")]
Folder = Annotated[str, StringConstraints(min_length=1), AfterValidator(fields.path), Words("path")]
Bytes = Annotated[
    int,
    Field(ge=1),
    BeforeValidator(byte_count),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string"}]}),
    Words("bytes: `500000`, `64KiB`, `10MiB`, `1.5GB`"),
]
Seconds = Annotated[
    float,
    BeforeValidator(seconds),
    WithJsonSchema({"anyOf": [{"type": "number", "minimum": 0}, {"type": "string"}]}),
    Words("seconds: `90`, or `30s`, `15 minutes`, `6h`, `1 day`"),
]
Patterns = tuple[Annotated[str, AfterValidator(fields.pattern), Words("gitignore pattern")], ...]

PathsInSource = tuple[Annotated[str, AfterValidator(fields.path_in_source), Words("path in the source")], ...]


_OWN_PATHS = ("log_file", "error_log_file", "state_dir")


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, hide_input_in_errors=True)


class MetricsConfig(_Section):
    """Where metrics go."""

    enabled: bool = True
    """Serve `/metrics`, `/healthz` and `/readyz` while the service runs."""
    address: Annotated[str, AfterValidator(fields.address), Words("host name or IP address")] = "127.0.0.1"
    """Address the port listens on. The container image sets `0.0.0.0`, since only Docker publishes it there."""
    port: Annotated[int, Field(ge=1, le=65535), BeforeValidator(fields.no_switch)] = 9477
    """TCP port of `/metrics`, `/healthz` and `/readyz`."""
    textfile: Annotated[Folder, AfterValidator(fields.textfile), Words("path ending in `.prom`")] | None = None
    """File for node-exporter's textfile collector, replaced as a whole after every cycle."""
    pushgateway: Annotated[str, AfterValidator(fields.web_address), Words("`http://` or `https://` URL")] | None = None
    """Pushgateway that gets the metrics after every cycle."""
    pushgateway_job: Annotated[str, Field(min_length=1)] = "truecopy"
    """The `job` grouping key at the Pushgateway."""
    pushgateway_instance: Annotated[str, Field(min_length=1)] | None = None
    """The `instance` grouping key; left out if not set, since a container's name would leave a new group every time."""
    pushgateway_username: Annotated[str, Field(min_length=1), AfterValidator(fields.user_name)] | None = None
    """User for the Pushgateway's basic authentication."""
    pushgateway_password: Annotated[SecretStr, AfterValidator(fields.password)] | None = None
    """Password for it. `TRUECOPY_METRICS_PUSHGATEWAY_PASSWORD_FILE` names a file with it; give the address so, too."""
    pushgateway_plain_http: Annotated[str, AfterValidator(fields.address), Words("host name or IP address")] | None = (
        None
    )
    """Host that may get the password over `http://`. If not set, only this machine may, and others by `https://`."""

    def to_settings(self) -> MetricsSettings:
        """Return the plain value."""
        password = self.pushgateway_password
        special: dict[str, Any] = {
            "pushgateway_password": password.get_secret_value() if password else None,
            "pushgateway_withheld": "",
        }
        plain = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(MetricsSettings)
            if field.name not in special
        }
        return MetricsSettings(**plain, **special)


class LogRotateConfig(_Section):
    """When a log file gives way to a new one."""

    size: Annotated[Bytes, Field(ge=4096)] | None = None
    """A log file that would grow beyond this becomes `.1`, and a new one begins; log files grow on if it is not set."""
    count: Annotated[int, Field(ge=1, le=1000), BeforeValidator(fields.no_switch)] = 5
    """Old files kept of each log: `.1` is the newest."""

    def to_settings(self) -> LogRotate:
        """Return the plain value."""
        return LogRotate(size=self.size, count=self.count)


class CopyOptions(_Section):
    """Options that hold for every pair, unless the pair says otherwise."""

    exclude: Patterns = ()
    """Gitignore patterns, relative to the source, of what is left out. `.stfolder/` and `/lost+found/` come first."""
    allow_empty: bool = False
    """Take a source that never had an entry for right; if not, it is refused, as a wrong path or a missing disk is."""
    must_exist: PathsInSource = ()
    """Paths in the source, without links, that its disk has: if one is missing, the pair is refused."""
    checksum: Checksum = "sha256"
    """Checksum of the content: `sha256` (checked by `sha256sum`), `blake3` (fastest) or `md5` (the original's)."""
    compare: Compare = "auto"
    """`auto` believes size, times, inode and mode; `checksum` reads both sides of every file in every cycle."""
    verify_copies: VerifyCopies = "hash"
    """`hash` hashes while copying; `readback` also reads each copy cold from the disk before it gets its name."""
    rate_limit: Bytes | None = None
    """Most bytes a second to copy, such as `10MiB`; unlimited if not set."""
    audit_interval: Seconds = 3600.0
    """How often every mirror file is held against the index; `0` in every cycle."""
    mirror_check: MirrorCheck = "awake"
    """`awake` stats each mirror folder in every cycle; `asleep` touches the mirror only to write; needs `state_dir`."""
    cross_mounts: bool = True
    """Take in what is mounted in the source, and btrfs subvolumes; file systems of the kernel are always left out."""
    specials: Specials = "skip"
    """FIFOs, sockets and devices: `skip` counts them, `recreate` makes the same in the mirror."""
    keep_setuid: bool = False
    """Keep the setuid and setgid bits of files, which make a copied program run with its owner's rights."""
    keep_security: bool = False
    """Keep the attributes `security.*` (capabilities, labels) and `trusted.*`, too; needs root."""
    reflink: bool = False
    """Clone files instead of writing them, where source and mirror share a file system that can: rot hits both then."""


class PairConfig(_Section):
    """One source with its mirror; any option given here wins over the general one."""

    name: PairName | None = None
    """Name in logs and metrics; made from the source's last folder if not set."""
    source: Folder
    """Folder to back up."""
    dest: Folder
    """Folder that becomes its mirror; made at first use, in a folder that exists."""
    exclude: Patterns | None = None
    """As above, for this pair."""
    allow_empty: bool | None = None
    """As above, for this pair."""
    must_exist: PathsInSource | None = None
    """As above, for this pair."""
    checksum: Checksum | None = None
    """As above, for this pair."""
    compare: Compare | None = None
    """As above, for this pair."""
    verify_copies: VerifyCopies | None = None
    """As above, for this pair."""
    rate_limit: Bytes | None = None
    """As above, for this pair."""
    audit_interval: Seconds | None = None
    """As above, for this pair."""
    mirror_check: MirrorCheck | None = None
    """As above, for this pair."""
    cross_mounts: bool | None = None
    """As above, for this pair."""
    specials: Specials | None = None
    """As above, for this pair."""
    keep_setuid: bool | None = None
    """As above, for this pair."""
    keep_security: bool | None = None
    """As above, for this pair."""
    reflink: bool | None = None
    """As above, for this pair."""


class WrittenConfig(CopyOptions):
    """The whole configuration."""

    run_enabled: Annotated[str, BeforeValidator(fields.run_switch)] = "Y"
    """`"Y"` runs; anything else logs that the run is disabled and does nothing."""
    source_dirs: tuple[Folder, ...] = ()
    """Folders to back up; the n-th goes to the n-th of `dest_dirs`."""
    dest_dirs: tuple[Folder, ...] = ()
    """Folders that become the mirrors; each is made at first use, in a folder that exists."""
    pairs: tuple[PairConfig, ...] = ()
    """The other way to name sources and mirrors: a list of tables with `source`, `dest`, a `name` and own options."""
    log_file: Folder | None = None
    """File that gets every log line, besides standard output; outside every source and mirror."""
    error_log_file: Folder | None = None
    """File that gets warnings and errors only; outside every source and mirror."""
    log_level: LogLevel = "info"
    """Least severe level that is logged: `debug`, `info`, `warning` or `error`."""
    log_format: LogFormat | None = None
    """`json` or `text` for every line; if not set, a terminal gets text, files and other outputs get JSON."""
    log_rotate: LogRotateConfig = LogRotateConfig()
    """Rotation of both log files: a table of its own, see below."""
    idle_log_interval: Seconds = 3600.0
    """The service logs cycles without a change, and failures that stay the same, at most this often; `0` every time."""
    sleep_time: Seconds = 3600.0
    """Seconds from the end of a cycle to the start of the next, unless `schedule` is set."""
    schedule: Annotated[str, AfterValidator(fields.schedule), Words("schedule")] | None = None
    """`every 6 hours`, `daily at 02:30` or `weekly on sunday at 04:00`; wins over `sleep_time`."""
    timezone: Annotated[str, AfterValidator(fields.zone), Words("time zone")] = "UTC"
    """IANA time zone that `schedule` means."""
    jitter: Seconds = 0.0
    """Up to so many seconds are added at random to each planned start."""
    run_at_start: bool = True
    """Run a cycle when the service starts; if not, only a missed one is caught up."""
    expected_interval: Seconds | None = None
    """Time between two runs that cron or a CronJob starts, for the alerts; `schedule` or `sleep_time` if not set."""
    state_dir: Folder | None = None
    """Folder for indexes, locks and counters; inside each mirror, in `.truecopy`, if not set."""
    workers: Annotated[int, Field(ge=1, le=64), BeforeValidator(fields.no_switch)] | None = None
    """Processes that share the work of a cycle; if not set, the cores that the container may use, at most 8."""
    workers_from: Annotated[int, Field(ge=0), BeforeValidator(fields.no_switch)] = 2000
    """A pair with fewer entries to look at or to copy is done by one process, which is faster then."""
    io_priority: IoPriority = "normal"
    """`normal`, or give way to others' reads and writes: `low` gets less of the disk, `idle` only what nobody wants."""
    stall_timeout: Seconds = 900.0
    """After so long without anything moving, a cycle is told to hang, and with `--once` given up; `0` never."""
    landlock: Landlock = "auto"
    """A wall of the kernel's (Linux 5.19) around the work: `auto` where it can be had, `required` never without it."""
    metrics: MetricsConfig = MetricsConfig()
    """Where metrics go: a table of its own, see below."""

    def to_settings(self) -> Config:
        """Return the plain value: what was not written has its default, and every pair its name and all its options."""
        special: dict[str, Any] = {
            "effective_pairs": self._pair_settings(),
            "log_rotate": self.log_rotate.to_settings(),
            "metrics": self.metrics.to_settings(),
        }
        plain = {
            field.name: getattr(self, field.name) for field in dataclasses.fields(Config) if field.name not in special
        }
        if self.run_enabled != "Y":
            # A disabled run may keep paths that lead nowhere here, and nothing is to be made at them.
            plain |= dict.fromkeys((key for key in _OWN_PATHS if consistency.is_elsewhere(plain[key] or "")), None)
        return Config(**plain, **special)

    def _pair_settings(self) -> tuple[Pair, ...]:
        given = self.pairs or tuple(
            PairConfig(source=source, dest=dest) for source, dest in zip(self.source_dirs, self.dest_dirs, strict=True)
        )
        names = consistency.unique_names([pair.name for pair in given], [pair.source for pair in given])
        general = {key: getattr(self, key) for key in CopyOptions.model_fields}
        return tuple(
            Pair(**{**general, **pair.model_dump(exclude_none=True), "name": name})
            for pair, name in zip(given, names, strict=True)
        )

    @model_validator(mode="wrap")
    @classmethod
    def _report_all_faults(cls, raw: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        # Around the keys' own validation, not after it: after it would be never, as soon as one key is wrong.
        found = list(conflicts(raw)) if isinstance(raw, Mapping) else []
        try:
            config = handler(raw)
        except ValidationError as error:
            raise _with_conflicts(error, found) from None
        if found:
            raise _with_conflicts(None, found)
        return config


def _with_conflicts(error: ValidationError | None, found: Sequence[Conflict]) -> ValidationError:
    told = [
        InitErrorDetails(type=fault["type"], loc=fault["loc"], input=fault["input"], ctx=fault.get("ctx", {}))
        for fault in (error.errors(include_url=False) if error else ())
    ]
    told += [
        InitErrorDetails(
            type=PydanticCustomError("conflict", "{text}", {"text": conflict.message}),
            loc=conflict.place,
            input=conflict.value,
        )
        for conflict in found
    ]
    return ValidationError.from_exception_data("WrittenConfig", told, hide_input=True)
