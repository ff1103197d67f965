"""Read the configuration: a JSON or TOML file, environment variables over it, secrets from files of their own.

Every fault of all three is told in one `ConfigError`. The file is read in one go, so that an edit in mid-read cannot
mix two versions of it beyond what the editor itself wrote.
"""

import hashlib
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from job import __version__
from job.config import settings as settings_module
from job.config.cache import cache_file, load_config, load_last_config, store_config
from job.config.settings import OWNER, PREFIX, Config, owner_of
from job.core.outcome import reason_text
from job.errors import ConfigError
from job.events.text import clean
from job.fs.trusted_file import Doubt, TrustedFile, Way, read_trusted

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
    doubts: tuple[Doubt, ...]
    """Who else may change it, or read the secrets in it. Root does not follow what others may change."""


class DescribedConfig(NamedTuple):
    """The same with all that is known of it, for people."""

    config: Config
    digest: str
    doubts: tuple[Doubt, ...]
    written: "WrittenConfig"
    """Without what the options of each pair come to."""
    origins: Mapping[str, str]
    """By dotted key: `default`, `file`, `env VARIABLE` or `secret file PATH`."""


def read_config(path: str, environ: Mapping[str, str]) -> LoadedConfig:
    """Read the configuration at `path`, with what `environ` overrides; believe it if it was found valid before.

    Raises `ConfigError` with every fault there is.
    """
    file = _read_config(path, environ)
    key = _key(path, file.content, environ)
    if key is None:
        return _checked(path, file, environ)
    shelf = cache_file(path, environ)
    known = load_config(shelf, key)
    if known is not None:
        return LoadedConfig(known, hashlib.sha256(file.content).hexdigest(), file.doubts)
    found = _checked(path, file, environ)
    metrics = found.config.metrics
    if metrics.pushgateway_password is None and not metrics.pushgateway_withheld:
        store_config(shelf, key, found.config, (path, time.time()))
    return found


def last_good_config(path: str, environ: Mapping[str, str]) -> tuple[Config, float] | None:
    """Give the configuration that was valid at `path` last, and when it was first read, in seconds since the epoch.

    None if that is not known: one with secrets is never kept.
    """
    return load_last_config(cache_file(path, environ), path)


def _checked(path: str, file: TrustedFile, environ: Mapping[str, str]) -> LoadedConfig:
    settings = _validated(path, file, environ)
    return LoadedConfig(settings.config, settings.digest, settings.doubts)


def read_settings(path: str, environ: Mapping[str, str]) -> DescribedConfig:
    """Read and validate the configuration, whatever is known of it. Raises `ConfigError` with every fault there is."""
    return _validated(path, _read_config(path, environ), environ)


def _validated(path: str, file: TrustedFile, environ: Mapping[str, str]) -> DescribedConfig:
    from job.config.sources import validated  # noqa: PLC0415  # pydantic is half of a short run's time

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
        config = replace(
            config, metrics=replace(config.metrics, pushgateway_password=None, pushgateway_withheld=valid.why_withheld)
        )
    return DescribedConfig(config, digest.hexdigest(), tuple(doubts), valid.written, valid.origins)


def written_paths(path: str, environ: Mapping[str, str], keys: Sequence[str]) -> dict[str, str]:
    """Give the paths that stand at `keys` in a configuration that cannot be used, as far as they can be read.

    What may hold a secret is left out. Never raises.
    """
    from job.config.sources import texts_at  # noqa: PLC0415  # as in `_validated`

    try:
        content = _read_config(path, environ).content
    except ConfigError:
        return {}
    return texts_at(keys, path, content, environ)


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
        told = f"the configuration file {shown} cannot be read: {reason_text(error)}"
        raise ConfigError(told, hint=f"{_advice(error)} {_ELSEWHERE}") from error
    # Whoever writes this file decides what root reads and where root writes.
    if os.geteuid() == 0 and file.doubts:
        told = f"root does not follow {shown}, since others may change it"
        raise ConfigError(
            told, hint=_mended(path, file.doubts, environ), faults=tuple(str(doubt) for doubt in file.doubts)
        )
    return file


def _mended(path: str, doubts: Sequence[Doubt], environ: Mapping[str, str]) -> str:
    """Say what helps; nothing is to be taken from a user whose file or folder it is."""
    if not any(doubt.way is Way.OWN for doubt in doubts):
        return "Run these commands as root, or run Truecopy as another user.{wrong}"
    from shlex import quote  # noqa: PLC0415  # nobody else may change an ordinary configuration

    there = os.path.abspath(path)
    inside = os.path.realpath(there).startswith(_ROOTS_OWN + "/")
    copied = os.path.join("/root/truecopy" if inside else _ROOTS_OWN, os.path.basename(there))
    copying = f"install -D -o root -g root -m 600 {quote(there)} {quote(copied)}"
    told = environ.get(OWNER, "")
    wrong = f" {OWNER} is '{told}', which is not the number of a user." if told and owner_of(environ) is None else ""
    return clean(
        f"As root, read it, copy it to where only root may write, `{copying}`, and name that file with --config"
        f"{_or_allow(doubts)}; or run Truecopy as another user.{wrong}"
    )


def _or_allow(doubts: Sequence[Doubt]) -> str:
    owners = sorted({doubt.user for doubt in doubts if doubt.way is Way.OWN})
    if len(owners) != 1:
        return ""
    also = " and run the commands above" if any(doubt.repair for doubt in doubts) else ""
    return f"; or, if user {owners[0]} may decide what root reads and writes, set {OWNER}={owners[0]}{also}"


def _read(path: str, most_bytes: int, environ: Mapping[str, str]) -> TrustedFile:
    """Read a file, with who else may change it, as far as this is a matter for the user that runs this program.

    An ordinary user may well be given a configuration by another one, as in a container. What it does with it is
    limited by its own rights. Raises `OSError`, also for what is no file or far too large.
    """
    user, owner = os.geteuid(), owner_of(environ)
    trusted = {user} if owner is None else {user, owner}
    file = read_trusted(path, most_bytes, frozenset(trusted))
    if user == 0:
        return file
    return file._replace(doubts=tuple(doubt for doubt in file.doubts if doubt.way is not Way.OWN))


def _advice(error: OSError) -> str:
    if isinstance(error, PermissionError):
        return f"Let user {os.geteuid()} read it."
    if isinstance(error, IsADirectoryError):
        return "Docker makes an empty folder where a file to mount is missing; otherwise name the file in it."
    return "A regular file is needed."


def _read_secret(path: str, environ: Mapping[str, str]) -> TrustedFile:
    """Read the file that a variable names. Raises `ValueError`, which names the path only if something is there.

    If nothing is, the variable may hold the secret itself.
    """
    shown = f"{clean(path)}: " if os.path.lexists(path) else ""
    try:
        file = _read(path, _MOST_SECRET_BYTES, environ)
    except (OSError, ValueError) as error:
        why = reason_text(error)
        msg = f"{shown}this file cannot be read: {why}; write the path of a file with nothing but the secret in it"
        raise ValueError(msg) from error
    if os.geteuid() == 0 and file.doubts:
        told = "; ".join(str(doubt) for doubt in file.doubts)
        if any(doubt.way is Way.OWN for doubt in file.doubts):
            told += f"; put the secret into a file that only root may change{_or_allow(file.doubts)}"
        msg = f"root does not read this file, since others may change it: {told}"
        raise ValueError(msg)
    return file
