"""Read the configuration: a JSON or TOML file, environment variables over it, secrets from files of their own.

Every fault of all three is told in one `ConfigError`. The file is read in one go, so that an edit in mid-read cannot
mix two versions of it beyond what the editor itself wrote.
"""

import errno
import hashlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from job.core.config import describe
from job.core.config.effective import Config
from job.core.config.environment import Override, Overrides, overrides
from job.core.config.faults import Fault, faults_of, printable
from job.core.config.model import WrittenConfig
from job.core.config.syntax import parse
from job.errors import ConfigError

_MOST_BYTES = 4 * 1024 * 1024
_ELSEWHERE = "Name the file with --config FILE or $TRUECOPY_CONFIG."
_NEXT = "Mend the file or the variables named above, then run `truecopy config check`."


@dataclass(frozen=True, slots=True)
class Settings:
    """A configuration that can be used, and where each of its keys came from."""

    config: Config
    written: WrittenConfig = field(repr=False)
    """The same before defaults of pairs were filled in, for `config show`."""
    origins: Mapping[str, str]
    """By dotted key: `default`, `file`, `env VARIABLE` or `secret file PATH`."""
    digest: str
    """SHA-256 of the bytes that were read, secrets included, in hex: it changes when they do."""


def read_settings(path: str, environ: Mapping[str, str]) -> Settings:
    """Read the configuration at `path`, with what `environ` overrides.

    Raises `ConfigError` with every fault there is.
    """
    digest = hashlib.sha256()
    raw = _read_config(path)
    digest.update(raw)

    def read_secret(secret_path: str) -> str:
        secret = _read_secret(secret_path)
        digest.update(b"\0" + secret)
        return _decoded(secret)

    environment = overrides(environ, read_secret)
    mapping, faults = _parsed(path, raw)
    faults += environment.faults
    if mapping is None:
        raise _unusable(path, faults)
    origins = _origins(mapping, environment)
    _lay_over(mapping, environment.values)
    written, more = _validated(mapping, {override.key: override.origin for override in environment.values})
    faults += more
    if written is None or faults:
        raise _unusable(path, faults)
    return Settings(written.in_force(), written, origins, digest.hexdigest())


def _read_config(path: str) -> bytes:
    shown = printable(path)
    try:
        content, status = _read(path)
    except FileNotFoundError as error:
        raise ConfigError(f"there is no configuration file at {shown}", hint=f"Create it. {_ELSEWHERE}") from error
    except OSError as error:
        told = f"the configuration file {shown} cannot be read: {error.strerror}"
        raise ConfigError(told, hint=f"{_advice(error)} {_ELSEWHERE}") from error
    # Whoever writes this file decides what root reads and where root writes.
    if os.geteuid() == 0 and status.st_mode & stat.S_IWOTH:
        told = f"the configuration file {shown} is writable by everybody (mode {status.st_mode & 0o777:o})"
        told += ", and root does not follow such a file"
        raise ConfigError(told, hint=f"Run `chmod o-w {shown}`, or run Truecopy as another user.")
    return content


def _read(path: str) -> tuple[bytes, os.stat_result]:
    """Read a whole regular file. Raises `OSError`, also for what is no file or far too large."""
    if "\0" in path:
        raise OSError(errno.EINVAL, "the path holds a NUL character")
    # Not blocking, so that a named pipe is refused below and not waited for.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        with open(descriptor, "rb", closefd=False) as file:
            content = file.read(_MOST_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(content) > _MOST_BYTES:
        raise OSError(errno.EFBIG, f"it is larger than {_MOST_BYTES} bytes")
    return content, status


def _advice(error: OSError) -> str:
    if isinstance(error, PermissionError):
        return f"Let user {os.geteuid()} read it."
    if isinstance(error, IsADirectoryError):
        return "Docker makes an empty folder where a file to mount is missing; otherwise name the file in it."
    return "A regular file is needed."


def _read_secret(path: str) -> bytes:
    try:
        return _read(path)[0]
    except OSError as error:
        msg = f"this file cannot be read: {error.strerror}; write the path of a file with nothing but the value in it"
        raise ValueError(msg) from error


def _decoded(raw: bytes) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        msg = f"not UTF-8: byte 0x{raw[error.start]:02x} at offset {error.start} in line {line}; save it as UTF-8"
        raise ValueError(msg) from error


def _parsed(path: str, raw: bytes) -> tuple[dict[str, Any] | None, list[Fault]]:
    try:
        text = _decoded(raw)
    except ValueError as error:
        return None, [Fault("the file", "", str(error))]
    parsed = parse(text, os.path.splitext(path)[1])
    if parsed.mapping is not None and isinstance(parsed.mapping.get("$schema"), str):
        del parsed.mapping["$schema"]
    return parsed.mapping, list(parsed.faults)


def _origins(mapping: Mapping[str, Any], environment: Overrides) -> dict[str, str]:
    origins = {}
    for key in describe.all_keys():
        section, _, name = key.name.rpartition(".")
        table = mapping.get(section, {}) if section else mapping
        origins[key.name] = "file" if isinstance(table, dict) and name in table else "default"
    return origins | {override.key: override.origin for override in environment.values}


def _lay_over(mapping: dict[str, Any], values: tuple[Override, ...]) -> None:
    for override in values:
        section, _, name = override.key.rpartition(".")
        table = mapping.setdefault(section, {}) if section else mapping
        # If the file has no table there, that is its fault and told as such.
        if isinstance(table, dict):
            table[name] = override.value


def _validated(mapping: Mapping[str, Any], origins: Mapping[str, str]) -> tuple[WrittenConfig | None, list[Fault]]:
    try:
        return WrittenConfig.model_validate(mapping), []
    except ValidationError as error:
        return None, faults_of(error, origins)


def _unusable(path: str, faults: list[Fault]) -> ConfigError:
    count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
    lines = tuple(str(fault) for fault in faults)
    return ConfigError(f"{printable(path)} cannot be used: {count}", hint=_NEXT, faults=lines)
