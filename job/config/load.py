"""Read the configuration: a JSON or TOML file, environment variables that override it, and files with secrets.

One `ConfigError` reports all faults of the three. The file is read in one call, so that no edit mixes two versions.
"""

import hashlib
import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from job import __version__
from job.config import settings as settings_module
from job.config.cache import ConfigCache
from job.config.settings import OWNER, PREFIX, Config, owner_of
from job.core.outcome import reason_text
from job.errors import ConfigError
from job.events.text import clean
from job.fs.trusted_file import Access, TrustedFile, TrustIssue, read_trusted

if TYPE_CHECKING:
    from job.config.model import WrittenConfig

_MOST_BYTES = 4 * 1024 * 1024
_MOST_SECRET_BYTES = 4096
_ROOTS_OWN = "/etc/truecopy"
_ELSEWHERE = "Name the file with --config FILE or $TRUECOPY_CONFIG."


class LoadedConfig(NamedTuple):
    """A configuration that can be used."""

    config: Config
    digest: str
    """SHA-256 of the bytes that were read, secrets included, in hex: it changes when they do."""
    doubts: tuple[TrustIssue, ...]
    """Which other users may change it, or read the secrets in it. Root refuses a file that others may change."""


class DescribedConfig(NamedTuple):
    """A configuration with the origins of its values, to be shown."""

    loaded: LoadedConfig
    written: "WrittenConfig"
    """As written: the general options are not yet applied to each pair."""
    origins: Mapping[str, str]
    """By dotted key: `default`, `file`, `env VARIABLE` or `secret file PATH`."""


def read_config(path: str, environ: Mapping[str, str]) -> LoadedConfig:
    """Read the configuration at `path` with the overrides in `environ`, from the cache if it was validated before.

    Raises `ConfigError` with all faults.
    """
    file = _read_config(path, environ)
    key = _cache_key(path, file.content, environ)
    if key is None:
        return _validated(path, file, environ).loaded
    cache = ConfigCache(path, environ)
    cached = cache.load(key)
    if cached is not None:
        return LoadedConfig(cached, hashlib.sha256(file.content).hexdigest(), file.doubts)
    found = _validated(path, file, environ).loaded
    metrics = found.config.metrics
    if metrics.pushgateway_password is None and not metrics.pushgateway_withheld:
        cache.store(key, found.config, time.time())
    return found


def last_good_config(path: str, environ: Mapping[str, str]) -> tuple[Config, float] | None:
    """Return the last valid configuration at `path`, and when it was first read, in seconds since the epoch.

    None if it is not cached: one with secrets never is.
    """
    return ConfigCache(path, environ).load_last()


def read_settings(path: str, environ: Mapping[str, str]) -> DescribedConfig:
    """Read and validate the configuration without the cache. Raises `ConfigError` with all faults."""
    return _validated(path, _read_config(path, environ), environ)


def _validated(path: str, file: TrustedFile, environ: Mapping[str, str]) -> DescribedConfig:
    from job.config.parse import validated  # noqa: PLC0415  # pydantic is half of a short run's time

    digest = hashlib.sha256(file.content)
    doubts = list(file.doubts)

    def read_secret(secret_path: str) -> bytes:
        secret = _read_secret(secret_path, environ)
        digest.update(b"\0" + secret.content)
        doubts.extend(secret.doubts)
        doubts.extend([secret.exposed] if secret.exposed else [])
        return secret.content

    valid = validated(path, file.content, environ, read_secret)
    if file.exposed and "file" in valid.origins_of_secrets():
        doubts.append(file.exposed)
    config = valid.written.to_settings()
    if valid.why_withheld:
        withheld = config.metrics._replace(pushgateway_password=None, pushgateway_withheld=valid.why_withheld)
        config = config._replace(metrics=withheld)
    loaded = LoadedConfig(config, digest.hexdigest(), tuple(doubts))
    return DescribedConfig(loaded, valid.written, valid.origins)


def written_paths(path: str, environ: Mapping[str, str], keys: Sequence[str]) -> dict[str, str]:
    """Return the paths at `keys` in an invalid configuration, as far as they can be read.

    Values that may contain a secret are left out. Never raises.
    """
    from job.config.parse import texts_at  # noqa: PLC0415  # as in `_validated`

    try:
        content = _read_config(path, environ).content
    except ConfigError:
        return {}
    return texts_at(keys, path, content, environ)


def _cache_key(path: str, raw: bytes, environ: Mapping[str, str]) -> str | None:
    """Hash everything that determines the configuration; None if files with secrets are involved."""
    variables = sorted((name, text) for name, text in environ.items() if name.startswith(PREFIX) and text)
    if any(name.endswith("_FILE") for name, _ in variables):
        return None
    program = (__version__, sys.version, _modules())
    parts = repr((program, os.path.abspath(path), hashlib.sha256(raw).hexdigest(), variables))
    return hashlib.sha256(parts.encode("utf-8", "surrogateescape")).hexdigest()


def _modules() -> list[tuple[str, int, int]]:
    """List the modules of this package with size and mtime, as a developer changes them without a new version."""
    with os.scandir(os.path.dirname(settings_module.__file__)) as found:
        files = [(each.name, each.stat()) for each in found if each.name.endswith(".py")]
    return sorted((name, status.st_size, status.st_mtime_ns) for name, status in files)


def _read_config(path: str, environ: Mapping[str, str]) -> TrustedFile:
    shown = clean(path)
    if not path:
        raise ConfigError("the path of the configuration file is empty", hint=_ELSEWHERE)
    try:
        file = _read(path, _MOST_BYTES, environ)
    except FileNotFoundError as error:
        raise ConfigError(f"there is no configuration file at {shown}", hint=f"Create it. {_ELSEWHERE}") from error
    except OSError as error:
        message = f"the configuration file {shown} cannot be read: {reason_text(error)}"
        raise ConfigError(message, hint=f"{_advice(error)} {_ELSEWHERE}") from error
    # A user who can write this file controls what root reads and where root writes.
    if os.geteuid() == 0 and file.doubts:
        message = f"root does not follow {shown}, since others may change it"
        raise ConfigError(
            message, hint=_repair_hint(path, file.doubts, environ), faults=tuple(str(doubt) for doubt in file.doubts)
        )
    return file


def _repair_hint(path: str, doubts: Sequence[TrustIssue], environ: Mapping[str, str]) -> str:
    """Return the next step; it never takes a file or folder away from its owner."""
    if not any(doubt.way is Access.OWN for doubt in doubts):
        return "Run these commands as root, or run Truecopy as another user."
    from shlex import quote  # noqa: PLC0415  # not needed for most configurations

    full = os.path.abspath(path)
    inside = os.path.realpath(full).startswith(_ROOTS_OWN + "/")
    copied = os.path.join("/root/truecopy" if inside else _ROOTS_OWN, os.path.basename(full))
    copying = f"install -D -o root -g root -m 600 {quote(full)} {quote(copied)}"
    owner = environ.get(OWNER, "")
    wrong = f" {OWNER} is '{owner}', which is not the number of a user." if owner and owner_of(environ) is None else ""
    return clean(
        f"As root, read it, copy it to where only root may write, `{copying}`, and name that file with --config"
        f"{_or_allow(doubts)}; or run Truecopy as another user.{wrong}"
    )


def _or_allow(doubts: Sequence[TrustIssue]) -> str:
    owners = sorted({doubt.user for doubt in doubts if doubt.way is Access.OWN})
    if len(owners) != 1:
        return ""
    also = " and run the commands above" if any(doubt.repair for doubt in doubts) else ""
    return f"; or, if user {owners[0]} may decide what root reads and writes, set {OWNER}={owners[0]}{also}"


def _read(path: str, most_bytes: int, environ: Mapping[str, str]) -> TrustedFile:
    """Read a file, and find the other users who may change it.

    For an ordinary user the owner of the file is not reported: that user's configuration may come from another one, as
    in a container. Raises `OSError`, also if it is not a regular file or too large.
    """
    user, owner = os.geteuid(), owner_of(environ)
    trusted = {user} if owner is None else {user, owner}
    file = read_trusted(path, most_bytes, frozenset(trusted))
    if user == 0:
        return file
    return file._replace(doubts=tuple(doubt for doubt in file.doubts if doubt.way is not Access.OWN))


def _advice(error: OSError) -> str:
    if isinstance(error, PermissionError):
        return f"Let user {os.geteuid()} read it."
    if isinstance(error, IsADirectoryError):
        return "Docker makes an empty folder where a file to mount is missing; otherwise name the file in it."
    return "A regular file is needed."


def _read_secret(path: str, environ: Mapping[str, str]) -> TrustedFile:
    """Read the file that a variable names. Raises `ValueError`.

    The message has the path only if it exists: otherwise the variable may hold the secret itself.
    """
    shown = f"{clean(path)}: " if os.path.lexists(path) else ""
    try:
        file = _read(path, _MOST_SECRET_BYTES, environ)
    except (OSError, ValueError) as error:
        why = reason_text(error)
        msg = f"{shown}this file cannot be read: {why}; write the path of a file with nothing but the secret in it"
        raise ValueError(msg) from error
    if os.geteuid() == 0 and file.doubts:
        reasons = "; ".join(str(doubt) for doubt in file.doubts)
        if any(doubt.way is Access.OWN for doubt in file.doubts):
            reasons += f"; put the secret into a file that only root may change{_or_allow(file.doubts)}"
        raise ValueError(f"root does not read this file, since others may change it: {reasons}")
    return file
