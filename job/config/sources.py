"""From the bytes of a configuration file and the environment to a valid configuration, or to every fault. Pure."""

import posixpath
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from job.config import describe, login, secrecy
from job.config.environment import Overrides, overrides
from job.config.faults import Fault, faults_of, printable
from job.config.model import WrittenConfig
from job.config.syntax import parse
from job.core.redaction import Redaction, remember
from job.errors import ConfigError

_NEXT = "Mend the file or the variables named above, then run `truecopy config check`."


@dataclass(frozen=True, slots=True)
class Valid:
    """What was written, and where each of its keys came from."""

    written: WrittenConfig
    origins: Mapping[str, str]
    """By dotted key: `default`, `file`, `env VARIABLE` or `secret file PATH`."""
    withheld: str
    """Why the password of the Pushgateway may not be sent, and what to do; empty where it may be."""

    def origins_of_secrets(self) -> set[str]:
        """Tell where the secrets came from that were given."""
        return {self.origins[key.name] for key in describe.all_keys() if key.is_secret}


def validated(path: str, raw: bytes, environ: Mapping[str, str], read_secret: Callable[[str], bytes]) -> Valid:
    """Validate the file `path`, which holds `raw`, with what `environ` overrides.

    `read_secret` gives the content of the file that a variable names, or raises `ValueError`. Raises `ConfigError` with
    every fault there is, and without any secret. From then on no text of this process shows the secrets.
    """
    refused: list[str] = []

    def secret_in(secret_path: str) -> str:
        raw = read_secret(secret_path)
        try:
            return secrecy.one_line(raw)
        except ValueError:
            refused.extend(secrecy.parts_of(raw))
            raise

    environment = overrides(environ, secret_in)
    remember(environment.secrets)
    mapping, faults = _parsed(path, raw)
    faults += environment.faults
    secrets = [*environment.secrets, *refused]
    if mapping is None:
        raise _unusable(path, faults, secrets)
    origins = _origins(mapping, environment)
    _lay_over(mapping, environment)
    secrets += secrecy.secrets_of(mapping)
    written, more = _modelled(mapping, {override.key: override.origin for override in environment.values})
    faults += [*more, *secrecy.copies(mapping, secrets)]
    if written is None or faults:
        raise _unusable(path, faults, [*secrets, *secrecy.suspects(mapping)])
    remember(secrets)
    return Valid(written, origins, login.withheld(written.metrics, origins))


def texts_at(keys: Sequence[str], path: str, raw: bytes, environ: Mapping[str, str]) -> dict[str, str]:
    """Give the texts that stand at `keys`, whatever else is wrong; those that may hold a secret are left out."""
    mapping, _ = _parsed(path, raw)
    if mapping is None:
        return {}
    environment = overrides(environ, lambda _: "")
    _lay_over(mapping, environment)
    secrets = {*environment.secrets, *secrecy.secrets_of(mapping), *secrecy.suspects(mapping)} - {""}
    found = {}
    for key in keys:
        section, _, name = key.rpartition(".")
        table = mapping.get(section) if section else mapping
        text = table.get(name) if isinstance(table, dict) else None
        if isinstance(text, str) and text and not any(secret in text for secret in secrets):
            found[key] = text
    return found


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
    parsed = parse(text, posixpath.splitext(path)[1])
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


def _lay_over(mapping: dict[str, Any], environment: Overrides) -> None:
    for override in environment.values:
        section, _, name = override.key.rpartition(".")
        table = mapping.setdefault(section, {}) if section else mapping
        # If the file has no table there, that is its fault and told as such.
        if isinstance(table, dict):
            table[name] = override.value


def _modelled(mapping: Mapping[str, Any], origins: Mapping[str, str]) -> tuple[WrittenConfig | None, list[Fault]]:
    try:
        return WrittenConfig.model_validate(mapping), []
    except ValidationError as error:
        return None, faults_of(error, origins)


def _unusable(path: str, faults: list[Fault], secrets: list[str]) -> ConfigError:
    count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
    mask = Redaction(secrets)
    lines = tuple(mask(str(fault)) for fault in faults)
    return ConfigError(f"{printable(path)} cannot be used: {count}", hint=_NEXT, faults=lines)
