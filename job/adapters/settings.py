"""Read the configuration: a JSON or TOML file, environment variables over it, secrets from files of their own.

Every fault of all three is told in one `ConfigError`. The file is read in one go, so that an edit in mid-read cannot
mix two versions of it beyond what the editor itself wrote.
"""

import errno
import hashlib
import os
import stat
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from job import __version__
from job.core.config import effective
from job.core.config.effective import PREFIX, Config
from job.core.outcome import reason_text
from job.core.wording import clean
from job.errors import ConfigError
from job.files.known import keep, recall, recall_last, shelf_of

if TYPE_CHECKING:
    from job.core.config.model import WrittenConfig

_MOST_BYTES = 4 * 1024 * 1024
_ELSEWHERE = "Name the file with --config FILE or $TRUECOPY_CONFIG."


class InForce(NamedTuple):
    """A configuration that can be used."""

    config: Config
    digest: str
    """SHA-256 of the bytes that were read, secrets included, in hex: it changes when they do."""


class Settings(NamedTuple):
    """The same with all that is known of it, for people."""

    config: Config
    digest: str
    written: "WrittenConfig"
    """Without what the options of each pair come to."""
    origins: Mapping[str, str]
    """By dotted key: `default`, `file`, `env VARIABLE` or `secret file PATH`."""


def read_config(path: str, environ: Mapping[str, str]) -> InForce:
    """Read the configuration at `path`, with what `environ` overrides; believe it if it was found valid before.

    Raises `ConfigError` with every fault there is.
    """
    raw = _read_config(path)
    key = _key(path, raw, environ)
    if key is None:
        return _checked(path, raw, environ)
    shelf = shelf_of(path, environ)
    known = recall(shelf, key)
    if known is not None:
        return InForce(known, hashlib.sha256(raw).hexdigest())
    found = _checked(path, raw, environ)
    if found.config.metrics.pushgateway_password is None:
        keep(shelf, key, found.config, (path, time.time()))
    return found


def last_good_config(path: str, environ: Mapping[str, str]) -> tuple[Config, float] | None:
    """Give the configuration that was valid at `path` last, and when it was first read, in seconds since the epoch.

    None if that is not known: one with secrets is never kept.
    """
    return recall_last(shelf_of(path, environ), path)


def _checked(path: str, raw: bytes, environ: Mapping[str, str]) -> InForce:
    settings = _validated(path, raw, environ)
    return InForce(settings.config, settings.digest)


def read_settings(path: str, environ: Mapping[str, str]) -> Settings:
    """Read and validate the configuration, whatever is known of it. Raises `ConfigError` with every fault there is."""
    return _validated(path, _read_config(path), environ)


def _validated(path: str, raw: bytes, environ: Mapping[str, str]) -> Settings:
    from job.core.config.validation import validated  # noqa: PLC0415  # pydantic is half of a short run's time

    digest = hashlib.sha256(raw)

    def read_secret(secret_path: str) -> bytes:
        secret = _read_secret(secret_path)
        digest.update(b"\0" + secret)
        return secret

    valid = validated(path, raw, environ, read_secret)
    return Settings(valid.written.in_force(), digest.hexdigest(), valid.written, valid.origins)


def _key(path: str, raw: bytes, environ: Mapping[str, str]) -> str | None:
    """Give a name for all that decides what the configuration comes to; None where secrets have a part in it."""
    ours = sorted((name, text) for name, text in environ.items() if name.startswith(PREFIX) and text)
    if any(name.endswith("_FILE") for name, _ in ours):
        return None
    program = (__version__, sys.version, _code())
    told = repr((program, os.path.abspath(path), hashlib.sha256(raw).hexdigest(), ours))
    return hashlib.sha256(told.encode("utf-8", "surrogateescape")).hexdigest()


def _code() -> list[tuple[str, int, int]]:
    """Tell the validating code apart from what a developer makes of it under the same version."""
    with os.scandir(os.path.dirname(effective.__file__)) as found:
        files = [(each.name, each.stat()) for each in found if each.name.endswith(".py")]
    return sorted((name, status.st_size, status.st_mtime_ns) for name, status in files)


def _read_config(path: str) -> bytes:
    shown = clean(path)
    try:
        content, status = _read(path)
    except FileNotFoundError as error:
        raise ConfigError(f"there is no configuration file at {shown}", hint=f"Create it. {_ELSEWHERE}") from error
    except OSError as error:
        told = f"the configuration file {shown} cannot be read: {reason_text(error)}"
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
        msg = (
            f"this file cannot be read: {reason_text(error)}; write the path of a file with nothing but the value in it"
        )
        raise ValueError(msg) from error
