"""Parse and validate a configuration file with the overrides of the environment, or report all faults. Pure.

Overrides are `TRUECOPY_<KEY>`, and `TRUECOPY_<KEY>_FILE` for secrets. Only secrets may come from files of their own, as
other values are shown. An empty variable counts as not set, because compose files write `${NAME:-}` for an unset one.
"""

import json
import posixpath
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import ValidationError

from job.config import describe, secrecy
from job.config.describe import Key
from job.config.faults import Fault, faults_of, nearest, printable
from job.config.model import WrittenConfig
from job.config.settings import OWNER, PREFIX, owner_of
from job.core.redaction import Redaction, remember
from job.errors import ConfigError
from job.events.text import plural

NOT_KEYS = ("TRUECOPY_CONFIG", OWNER)
"""Variables with the prefix that are not keys."""
FILE_ENDING = "_FILE"
"""Suffix of variables with the path of a file that contains the secret."""

# Kubernetes sets these in pods whose namespace has a Service with a name that begins with `truecopy`.
_SERVICE_LINK = re.compile(r"TRUECOPY_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)")
_SERVICE_URL = re.compile(r"(tcp|udp|sctp)://.*")


class Override(NamedTuple):
    """The value of one key from the environment, and its origin in words."""

    key: str
    value: Any
    origin: str


class Overrides(NamedTuple):
    """All overrides in the environment, and their faults."""

    values: tuple[Override, ...]
    faults: tuple[Fault, ...]
    secrets: tuple[str, ...]
    """The secrets among the values."""


def overrides(environ: Mapping[str, str], read_secret: Callable[[str], str]) -> Overrides:
    """Return the overrides. `read_secret` returns the text of a file, or raises `ValueError` with the reason."""
    variables = {
        name: text for name, text in environ.items() if name.startswith(PREFIX) and text and not _foreign(name, text)
    }
    known = {name: key for key in describe.all_keys() for name in _names(key)}
    found: list[Override] = []
    faults = [_unknown(name, known) for name in sorted(variables) if name not in known and name not in NOT_KEYS]
    if OWNER in variables and owner_of(environ) is None:
        faults.append(Fault(OWNER, "", "not the number of a user; write one such as 1000, as `id -u` shows it"))
    for key in describe.all_keys():
        try:
            override = _override(key, variables, read_secret)
        except _InvalidValueError as wrong:
            faults.append(wrong.fault)
        else:
            found += [override] if override else []
    secret = {key.name for key in describe.all_keys() if key.is_secret}
    secrets = [each.value for each in found if each.key in secret]
    # Also those that are not used: setting both variables is a fault.
    secrets += [variables[key.variable] for key in describe.all_keys() if key.is_secret and key.variable in variables]
    return Overrides(tuple(found), tuple(faults), tuple(dict.fromkeys(secrets)))


def _names(key: Key) -> tuple[str, ...]:
    return (key.variable, key.variable + FILE_ENDING) if key.is_secret else (key.variable,)


class _InvalidValueError(Exception):
    def __init__(self, fault: Fault) -> None:
        super().__init__(fault)
        self.fault = fault


def _override(key: Key, variables: Mapping[str, str], read_secret: Callable[[str], str]) -> Override | None:
    by_file = key.variable + FILE_ENDING if key.is_secret else ""
    if key.variable in variables and by_file in variables:
        message = f"{by_file} is set as well, and only one can count; unset one of the two"
        raise _InvalidValueError(Fault(f"{key.name} (from {key.variable})", "", message))
    if by_file in variables:
        try:
            text = read_secret(variables[by_file])
        except ValueError as error:
            raise _InvalidValueError(Fault(f"{key.name} (from {by_file})", "", str(error))) from error
        origin = f"secret file {variables[by_file]}"
        return Override(key.name, _value(key, text, origin), origin)
    if key.variable in variables:
        return Override(key.name, _value(key, variables[key.variable], key.variable), f"env {key.variable}")
    return None


def _value(key: Key, text: str, origin: str) -> Any:
    if not key.is_list:
        return text
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        message = """not JSON; write a list such as '["/one", "/two"]'"""
        raise _InvalidValueError(Fault(f"{key.name} (from {origin})", "", message)) from error
    return value


def _unknown(name: str, known: Mapping[str, Key]) -> Fault:
    plain = name.removesuffix(FILE_ENDING)
    if plain in known and not known[plain].is_secret:
        secrets = ", ".join(each for each in known if each.endswith(FILE_ENDING) and known[each].is_secret)
        message = f"unknown variable; only secrets are read from files ({secrets}), so give the value in {plain}"
        return Fault(name, "", message)
    near = nearest(name, (*known, *NOT_KEYS))
    advice = f"the nearest known one is {near}" if near else "`truecopy config schema` lists the keys"
    return Fault(name, "", f"unknown variable; {advice}")


def _foreign(name: str, text: str) -> bool:
    return bool(_SERVICE_LINK.fullmatch(name) or (name.endswith("_PORT") and _SERVICE_URL.fullmatch(text)))


FORMATS = (".json", ".toml")

_TOML_PLACE = re.compile(r"\s*\(at line (\d+), column (\d+)\)|\s*\(at end of document\)")
_LONGEST = 120
_DEEPEST = 32
"""Maximum nesting of tables and lists, also in `_DEEP_KEY`; a configuration has three levels."""
_DEEP_KEY = re.compile(r"""(?<![A-Za-z0-9_-])(?:(?:[A-Za-z0-9_-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){32}""")
"""A dotted TOML key beyond that depth: parsing takes quadratic time in the number of levels."""
_TOO_DEEP = "nested too deeply; a configuration has at most three levels"


class Parsed(NamedTuple):
    """A parsed text; `mapping` is None if it cannot be parsed."""

    mapping: dict[str, Any] | None
    faults: tuple[Fault, ...] = ()


def parse(text: str, extension: str) -> Parsed:
    """Parse `text` by the `extension` of its file. Never raises: errors are returned as faults."""
    if extension.lower() not in FORMATS:
        problem = f"{extension} is not a known extension" if extension else "the file has no extension"
        return _unreadable("the file's name", f"{problem}; name it .json or .toml after what is in it")
    try:
        parsed = _json(text) if extension.lower() == ".json" else _toml(text)
    except RecursionError:
        return _unreadable("the file", _TOO_DEEP)
    return _unreadable("the file", _TOO_DEEP) if _is_too_deep(parsed.mapping) else parsed


def _is_too_deep(mapping: dict[str, Any] | None) -> bool:
    level: list[Any] = [mapping or {}]
    for _ in range(_DEEPEST):
        within = (value for each in level for value in (each.values() if isinstance(each, dict) else each))
        level = [value for value in within if isinstance(value, dict | list)]
    return bool(level)


def _json(text: str) -> Parsed:
    twice: list[str] = []

    def table(items: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in items:
            if name in found:
                twice.append(name)
            found[name] = value
        return found

    try:
        mapping = json.loads(text, object_pairs_hook=table, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        return _unreadable(*_at(text, error.lineno, error.colno, error.msg, _json_advice(error.msg)))
    except ValueError as error:
        return _unreadable("the file", _in_words(error))
    if not isinstance(mapping, dict):
        return _unreadable("the file", "not a table; begin it with { and write keys with their values")
    faults = tuple(Fault(name, "", "this key occurs twice in one table; keep one") for name in twice)
    return Parsed(mapping, faults)


def _refuse_constant(word: str) -> float:
    raise ValueError(f"{word} is not a number a configuration can hold; write digits")


def _json_advice(message: str) -> str:
    if "escape" in message:
        return "in JSON write each backslash twice, as in C:\\\\Users, or use forward slashes"
    if "Extra data" in message:
        return "the file has to end with the } that closes its first {"
    return "check for a missing or extra comma, quote or bracket; JSON has no comments, TOML has"


def _toml(text: str) -> Parsed:
    if deep := _DEEP_KEY.search(text):
        return _unreadable(f"line {text.count(chr(10), 0, deep.start()) + 1}", _TOO_DEEP)
    try:
        return Parsed(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        message = str(error)
        match = _TOML_PLACE.search(message)
        reason = _TOML_PLACE.sub("", message)
        lines = text.split("\n")
        line, column = (int(match[1]), int(match[2])) if match and match[1] else (len(lines), len(lines[-1]) + 1)
        return _unreadable(*_at(text, line, column, reason, "text needs quotes, a list [ and ], a table a [name]"))
    except ValueError as error:
        return _unreadable("the file", _in_words(error))


def _in_words(error: ValueError) -> str:
    """Replace Python's message for a number with thousands of digits, which mentions Python."""
    return "a number has too many digits; write a shorter one" if "integer string" in str(error) else str(error)


def _at(text: str, line: int, column: int, reason: str, advice: str) -> tuple[str, str]:
    shown = printable(secrecy.quotable(text.split("\n")[line - 1])[:_LONGEST])
    quoted = f" in: {shown}" if shown else ""
    return f"line {line}, column {column}", f"{reason}{quoted}; {advice}"


def _unreadable(place: str, message: str) -> Parsed:
    return Parsed(None, (Fault(place, "", message),))


_NEXT = "Correct the file or the variables named above, then run `truecopy config check`."


class ValidConfig(NamedTuple):
    """The written configuration, and the origins of its keys."""

    written: WrittenConfig
    origins: Mapping[str, str]
    """By dotted key: `default`, `file`, `env VARIABLE` or `secret file PATH`."""
    why_withheld: str
    """Why the password of the Pushgateway is not sent, and the next step; empty if it may be sent."""

    def origins_of_secrets(self) -> set[str]:
        """Return the origins of the secret keys."""
        return {self.origins[key.name] for key in describe.all_keys() if key.is_secret}


def validated(path: str, raw: bytes, environ: Mapping[str, str], read_secret: Callable[[str], bytes]) -> ValidConfig:
    """Validate the content `raw` of the file `path` with the overrides in `environ`.

    `read_secret` returns the content of the file that a variable names, or raises `ValueError`. Raises `ConfigError`
    with all faults, without secrets. Afterwards all texts of this process mask the secrets.
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
    _apply_overrides(mapping, environment)
    secrets += secrecy.secrets_of(mapping)
    written, more = _validate_model(mapping, {override.key: override.origin for override in environment.values})
    faults += [*more, *secrecy.copies(mapping, secrets)]
    if written is None or faults:
        raise _unusable(path, faults, [*secrets, *secrecy.suspects(mapping)])
    remember(secrets)
    return ValidConfig(written, origins, secrecy.why_withheld(written.metrics, origins))


def texts_at(keys: Sequence[str], path: str, raw: bytes, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the texts at `keys` of an invalid configuration; those that may contain a secret are left out."""
    mapping, _ = _parsed(path, raw)
    if mapping is None:
        return {}
    environment = overrides(environ, lambda _: "")
    _apply_overrides(mapping, environment)
    secrets = {*environment.secrets, *secrecy.secrets_of(mapping), *secrecy.suspects(mapping)} - {""}
    found = {}
    for key in keys:
        section, _, name = key.rpartition(".")
        table = mapping.get(section) if section else mapping
        text = table.get(name) if isinstance(table, dict) else None
        if isinstance(text, str) and text and not any(secret in text for secret in secrets):
            found[key] = text
    return found


def _parsed(path: str, raw: bytes) -> tuple[dict[str, Any] | None, list[Fault]]:
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        at, line = error.start, raw.count(b"\n", 0, error.start) + 1
        message = f"not UTF-8: byte 0x{raw[at]:02x} at offset {at} in line {line}; save it as UTF-8"
        return None, [Fault("the file", "", message)]
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


def _apply_overrides(mapping: dict[str, Any], environment: Overrides) -> None:
    for override in environment.values:
        section, _, name = override.key.rpartition(".")
        table = mapping.setdefault(section, {}) if section else mapping
        # A value that is not a table is reported as a fault of its own.
        if isinstance(table, dict):
            table[name] = override.value


def _validate_model(mapping: Mapping[str, Any], origins: Mapping[str, str]) -> tuple[WrittenConfig | None, list[Fault]]:
    try:
        return WrittenConfig.model_validate(mapping), []
    except ValidationError as error:
        return None, faults_of(error, origins)


def _unusable(path: str, faults: list[Fault], secrets: list[str]) -> ConfigError:
    mask = Redaction(secrets)
    lines = tuple(mask(str(fault)) for fault in faults)
    return ConfigError(f"{printable(path)} cannot be used: {plural(len(faults), 'fault')}", hint=_NEXT, faults=lines)
