"""The model of a configuration: each key with its type, default, bounds and meaning.

The table in `config/README.md` and `config/backup_config.schema.json` are generated from this file. No file is read
here: `parse.py` parses, `faults.py` formats faults. A valid configuration becomes plain values of `settings.py`.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ModelWrapValidatorHandler,
    SecretStr,
    StringConstraints,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError

from job.config import consistency, fields
from job.config.consistency import Conflict, conflicts
from job.config.fields import Words, byte_count, seconds
from job.config.settings import (
    BrakeSettings,
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
    OnSourceDelete,
    Pair,
    Specials,
    VerifyCopies,
    VersionsSettings,
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

KeepRule = Annotated[
    str,
    BeforeValidator(fields.keep_text),
    WithJsonSchema(
        {"anyOf": [{"type": "string"}, {"type": "object", "additionalProperties": {"type": "integer", "minimum": 0}}]}
    ),
    Words("`30 days`, `6 months`, `1 year`, or counts: `{hourly = 24, daily = 7, weekly = 4, monthly = 12}`"),
]
WaitingTime = Annotated[
    str,
    BeforeValidator(fields.waiting_text),
    WithJsonSchema({"type": "string"}),
    Words("`7 days`, `12 hours`, `2 months`"),
]
MostSpace = Annotated[
    str,
    BeforeValidator(fields.most_text),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "integer", "minimum": 1}]}),
    Words("share of the disk, `20 %`, or bytes: `500GiB`"),
]
FileCount = Annotated[int, Field(ge=0), BeforeValidator(fields.no_switch)]
_SHARE_SCHEMA = WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "number", "minimum": 0, "maximum": 1}]})
Share = Annotated[float, BeforeValidator(fields.share), _SHARE_SCHEMA, Words("share: `30 %`")]
PathsInSource = tuple[Annotated[str, AfterValidator(fields.path_in_source), Words("path in the source")], ...]


_OWN_PATHS = ("log_file", "error_log_file", "state_dir")


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, hide_input_in_errors=True)


class MetricsConfig(_Section):
    """Outputs of metrics."""

    enabled: bool = True
    """Serve `/metrics`, `/healthz` and `/readyz` while the service runs."""
    address: Annotated[str, AfterValidator(fields.address), Words("host name or IP address")] = "127.0.0.1"
    """Address of the port. The container image sets `0.0.0.0`, where only Docker publishes the port."""
    port: Annotated[int, Field(ge=1, le=65535), BeforeValidator(fields.no_switch)] = 9477
    """TCP port of `/metrics`, `/healthz` and `/readyz`."""
    textfile: Annotated[Folder, AfterValidator(fields.textfile), Words("path ending in `.prom`")] | None = None
    """File for node-exporter's textfile collector, replaced as a whole after every cycle."""
    pushgateway: Annotated[str, AfterValidator(fields.web_address), Words("`http://` or `https://` URL")] | None = None
    """Pushgateway that gets the metrics after every cycle."""
    pushgateway_job: Annotated[str, Field(min_length=1)] = "truecopy"
    """The `job` grouping key at the Pushgateway."""
    pushgateway_instance: Annotated[str, Field(min_length=1)] | None = None
    """The `instance` grouping key; left out if not set, as each container would leave a new group."""
    pushgateway_username: Annotated[str, Field(min_length=1), AfterValidator(fields.user_name)] | None = None
    """User for the Pushgateway's basic authentication."""
    pushgateway_password: Annotated[SecretStr, AfterValidator(fields.password)] | None = None
    """Its password. `TRUECOPY_METRICS_PUSHGATEWAY_PASSWORD_FILE` names a file with it; then set the address so too."""
    pushgateway_plain_http: Annotated[str, AfterValidator(fields.address), Words("host name or IP address")] | None = (
        None
    )
    """Host to which the password may be sent over `http://`; if not set, only to this machine, to others by `https://`."""

    def to_settings(self) -> MetricsSettings:
        """Return the plain settings."""
        password = self.pushgateway_password
        special: dict[str, Any] = {
            "pushgateway_password": password.get_secret_value() if password else None,
            "pushgateway_withheld": "",
        }
        plain = {name: getattr(self, name) for name in MetricsSettings._fields if name not in special}
        return MetricsSettings(**plain, **special)


class LogRotateConfig(_Section):
    """Rotation of log files."""

    size: Annotated[Bytes, Field(ge=4096)] | None = None
    """Size at which a log file becomes `.1` and a new one is started; if not set, log files are not rotated."""
    count: Annotated[int, Field(ge=1, le=1000), BeforeValidator(fields.no_switch)] = 5
    """Number of old files of each log; `.1` is the newest."""

    def to_settings(self) -> LogRotate:
        """Return the plain settings."""
        return LogRotate(self.size, self.count)


class _CanBeOff(_Section):
    """A table that `false` turns off."""

    @model_validator(mode="before")
    @classmethod
    def _read_false(cls, raw: Any) -> Any:
        return {"enabled": False} if raw is False else raw

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [handler(schema), {"const": False}]}


class VersionsConfig(_CanBeOff):
    """Replaced contents that are kept in the mirror's `.truecopy/versions`; `versions = false` keeps none."""

    enabled: bool = True
    """Keep the contents of files that a cycle replaces. What would expose or hide other entries is kept in any case."""
    keep: KeepRule = "30 days"
    """How long a content is kept after it was replaced, or how many of each hour, day, week and month."""
    most: MostSpace = "20 %"
    """Maximum space of all versions of a mirror."""
    exclude: Patterns = ()
    """Gitignore patterns of entries whose replaced contents are not kept, such as `*.log`."""

    def to_settings(self, own: "PairVersions | None") -> VersionsSettings | None:
        """Return the plain settings of a pair, with its own keys; None if nothing is kept."""
        values = self.model_dump() | (own.model_dump(exclude_none=True) if own else {})
        enabled = values.pop("enabled")
        return VersionsSettings(**values) if enabled else None


class PairVersions(_CanBeOff):
    """The keys of `versions` that a pair has of its own."""

    enabled: bool | None = None
    keep: KeepRule | None = None
    most: MostSpace | None = None
    exclude: Patterns | None = None


class BrakeConfig(_CanBeOff):
    """The brake: a cycle that would replace or retire too much holds that until `truecopy approve`; `false` is off."""

    enabled: bool = True
    """Hold the destructive part of such a cycle."""
    share: Share = 0.3
    """It is held if more than this share of the files in the index would be replaced or retired..."""
    files: FileCount = 100
    """...and more than this number; also if more than this number become empty or all zeros. `0`: the first does."""
    canary: PathsInSource = ()
    """Files in the source that nobody changes: it is held as soon as one of them is changed or missing."""
    exclude: Patterns = ()
    """Gitignore patterns of entries that are replaced in any case, such as rolling backups; they are counted apart."""

    def to_settings(self, own: "PairBrake | None") -> BrakeSettings | None:
        """Return the plain settings of a pair, with its own keys; None if the brake is off."""
        values = self.model_dump() | (own.model_dump(exclude_none=True) if own else {})
        enabled = values.pop("enabled")
        return BrakeSettings(**values) if enabled else None


class PairBrake(_CanBeOff):
    """The keys of `brake` that a pair has of its own."""

    enabled: bool | None = None
    share: Share | None = None
    files: FileCount | None = None
    canary: PathsInSource | None = None
    exclude: Patterns | None = None


class CopyOptions(_Section):
    """Options of all pairs, which a pair can override."""

    exclude: Patterns = ()
    """Gitignore patterns of excluded entries, relative to the source. `.stfolder/` and `/lost+found/` come first."""
    allow_empty: bool = False
    """Accept a source that never had an entry; if false, it is refused, as it may be a wrong path or a missing disk."""
    must_exist: PathsInSource = ()
    """Paths in the source, without links, that must exist: if one is missing, the pair is refused."""
    checksum: Checksum = "sha256"
    """Checksum of the content: `sha256` (checked by `sha256sum`), `blake3` (fastest) or `md5` (the original's)."""
    compare: Compare = "auto"
    """`auto` compares size, times, inode and mode; `checksum` reads both sides of each file in each cycle."""
    verify_copies: VerifyCopies = "hash"
    """`hash` hashes while copying; `readback` also reads each copy from the disk before it is renamed."""
    rate_limit: Bytes | None = None
    """Maximum bytes per second to copy, such as `10MiB`; unlimited if not set."""
    audit_interval: Seconds = 3600.0
    """Interval between audits, which compare all mirror files with the index; `0` for each cycle."""
    mirror_check: MirrorCheck = "awake"
    """`awake` stats each mirror folder in each cycle; `asleep` accesses the mirror only to write; needs `state_dir`."""
    cross_mounts: bool = True
    """Include file systems mounted in the source, and btrfs subvolumes; those of the kernel are always left out."""
    specials: Specials = "skip"
    """FIFOs, sockets and devices: `skip` only counts them, `recreate` creates them in the mirror."""
    keep_setuid: bool = False
    """Keep the setuid and setgid bits of files, which make a copied program run with its owner's rights."""
    keep_security: bool = False
    """Keep the extended attributes `security.*` (capabilities, labels) and `trusted.*`; needs root."""
    reflink: bool = False
    """Clone files if source and mirror share a file system that supports it; a bad block then damages both."""
    on_source_delete: OnSourceDelete = "keep"
    """What happens to mirror entries that left the source: `keep` leaves them, `retire` moves them to the versions."""
    retire_after: WaitingTime = "7 days"
    """How long an entry is missing before it is retired; also, two complete scans in a row have to miss it."""
    versions: VersionsConfig = VersionsConfig()
    """Replaced contents that are kept: a table, see below, or `false`."""
    brake: BrakeConfig = BrakeConfig()
    """The brake for cycles that would replace too much: a table, see below, or `false`."""


class PairConfig(_Section):
    """One source with its mirror; its options override the general ones."""

    name: PairName | None = None
    """Name in logs and metrics; made from the source's last folder if not set."""
    source: Folder
    """Folder to back up."""
    dest: Folder
    """Folder for the mirror; created at first use, in an existing folder."""
    exclude: Patterns | None = None
    allow_empty: bool | None = None
    must_exist: PathsInSource | None = None
    checksum: Checksum | None = None
    compare: Compare | None = None
    verify_copies: VerifyCopies | None = None
    rate_limit: Bytes | None = None
    audit_interval: Seconds | None = None
    mirror_check: MirrorCheck | None = None
    cross_mounts: bool | None = None
    specials: Specials | None = None
    keep_setuid: bool | None = None
    keep_security: bool | None = None
    reflink: bool | None = None
    on_source_delete: OnSourceDelete | None = None
    retire_after: WaitingTime | None = None
    versions: Annotated[PairVersions, Words("table, or false")] | None = None
    brake: Annotated[PairBrake, Words("table, or false")] | None = None


class WrittenConfig(CopyOptions):
    """The whole configuration, as written."""

    run_enabled: Annotated[str, BeforeValidator(fields.run_switch)] = "Y"
    """`"Y"` runs; any other text disables the run, which is logged."""
    source_dirs: tuple[Folder, ...] = ()
    """Folders to back up; the n-th goes to the n-th of `dest_dirs`."""
    dest_dirs: tuple[Folder, ...] = ()
    """Folders for the mirrors; each is created at first use, in an existing folder."""
    pairs: tuple[PairConfig, ...] = ()
    """Sources and mirrors as a list of tables with `source`, `dest`, `name` and options, instead of the two lists."""
    log_file: Folder | None = None
    """File for all log lines, besides standard output; outside all sources and mirrors."""
    error_log_file: Folder | None = None
    """File for warnings and errors; outside all sources and mirrors."""
    log_level: LogLevel = "info"
    """Lowest level that is logged: `debug`, `info`, `warning` or `error`."""
    log_format: LogFormat | None = None
    """`json` or `text`; if not set, text on a terminal, JSON in files and other outputs."""
    log_rotate: LogRotateConfig = LogRotateConfig()
    """Rotation of both log files: a table, see below."""
    idle_log_interval: Seconds = 3600.0
    """Minimum interval at which the service logs cycles without changes, and unchanged failures; `0` logs all."""
    sleep_time: Seconds = 3600.0
    """Seconds from the end of a cycle to the start of the next, unless `schedule` is set."""
    schedule: Annotated[str, AfterValidator(fields.schedule), Words("schedule")] | None = None
    """`every 6 hours`, `daily at 02:30` or `weekly on sunday at 04:00`; overrides `sleep_time`."""
    timezone: Annotated[str, AfterValidator(fields.zone), Words("time zone")] = "UTC"
    """IANA time zone of `schedule`, and of the times that `restore`, `versions` and `explain` read and show."""
    jitter: Seconds = 0.0
    """Maximum random delay of each planned start."""
    run_at_start: bool = True
    """Run a cycle when the service starts; if false, only if one was missed."""
    expected_interval: Seconds | None = None
    """Interval of runs that cron or a CronJob starts, for alerts; if not set, that of `schedule` or `sleep_time`."""
    state_dir: Folder | None = None
    """Folder for indexes, locks and counters; if not set, `.truecopy` in each mirror."""
    workers: Annotated[int, Field(ge=1, le=64), BeforeValidator(fields.no_switch)] | None = None
    """Number of worker processes; if not set, the available cores, at most 8."""
    workers_from: Annotated[int, Field(ge=0), BeforeValidator(fields.no_switch)] = 2000
    """A pair with fewer entries to scan or copy uses one process, which is faster."""
    io_priority: IoPriority = "normal"
    """Priority of disk access: `normal`, `low`, or `idle`, which waits for all other processes."""
    stall_timeout: Seconds = 900.0
    """Time without progress after which a cycle is reported as stalled, and with `--once` aborted; `0` for never."""
    landlock: Landlock = "auto"
    """Landlock sandbox (Linux 5.19): `auto` if available, `required` refuses pairs without it."""
    metrics: MetricsConfig = MetricsConfig()
    """Outputs of metrics: a table, see below."""

    def to_settings(self) -> Config:
        """Return the plain settings: with defaults, and each pair with its name and all options."""
        special: dict[str, Any] = {
            "effective_pairs": self._pair_settings(),
            "log_rotate": self.log_rotate.to_settings(),
            "metrics": self.metrics.to_settings(),
        }
        plain = {name: getattr(self, name) for name in Config._fields if name not in special}
        if self.run_enabled != "Y":
            # A disabled run may have paths of another system, at which nothing must be created.
            plain |= dict.fromkeys((key for key in _OWN_PATHS if consistency.is_elsewhere(plain[key] or "")), None)
        return Config(**plain, **special)

    def _pair_settings(self) -> tuple[Pair, ...]:
        given = self.pairs or tuple(
            PairConfig(source=source, dest=dest) for source, dest in zip(self.source_dirs, self.dest_dirs, strict=True)
        )
        names = consistency.unique_names([pair.name for pair in given], [pair.source for pair in given])
        general = {key: getattr(self, key) for key in CopyOptions.model_fields}
        return tuple(
            Pair(
                **{
                    **general,
                    **pair.model_dump(exclude_none=True),
                    "name": name,
                    "versions": self.versions.to_settings(pair.versions),
                    "brake": self.brake.to_settings(pair.brake),
                }
            )
            for pair, name in zip(given, names, strict=True)
        )

    @model_validator(mode="wrap")
    @classmethod
    def _report_all_faults(cls, raw: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        # Mode "wrap", as a validator after a failed key would not run.
        found = list(conflicts(raw)) if isinstance(raw, Mapping) else []
        try:
            config = handler(raw)
        except ValidationError as error:
            raise _with_conflicts(error, found) from None
        if found:
            raise _with_conflicts(None, found)
        return config


def _with_conflicts(error: ValidationError | None, found: Sequence[Conflict]) -> ValidationError:
    faults = [
        InitErrorDetails(type=fault["type"], loc=fault["loc"], input=fault["input"], ctx=fault.get("ctx", {}))
        for fault in (error.errors(include_url=False) if error else ())
    ]
    faults += [
        InitErrorDetails(
            type=PydanticCustomError("conflict", "{text}", {"text": conflict.message}),
            loc=conflict.place,
            input=conflict.value,
        )
        for conflict in found
    ]
    return ValidationError.from_exception_data("WrittenConfig", faults, hide_input=True)
