"""What the environment says about the configuration: `TRUECOPY_<KEY>`, and `..._FILE` for secrets. Pure.

Only a secret may come from a file of its own: what the file of any other key held would be shown with that key.
An empty variable counts as not set, because compose files write `${NAME:-}` for "unless somebody sets it".
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from job.config import describe
from job.config.describe import Key
from job.config.faults import Fault, nearest
from job.config.settings import OWNER, PREFIX, owner_of

NOT_KEYS = ("TRUECOPY_CONFIG", OWNER)
"""Variables with our prefix that are no keys."""
FILE_ENDING = "_FILE"
"""How the name of a variable ends whose value is the path of a file with the secret in it."""

# Kubernetes adds these to every pod in whose namespace there is a Service whose name begins with `truecopy`.
_SERVICE_LINK = re.compile(r"TRUECOPY_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)")
_SERVICE_URL = re.compile(r"(tcp|udp|sctp)://.*")


@dataclass(frozen=True, slots=True)
class Override:
    """One key's value from the environment, and where it came from in words."""

    key: str
    value: Any
    origin: str


@dataclass(frozen=True, slots=True)
class Overrides:
    """Everything the environment says, and everything wrong with it."""

    values: tuple[Override, ...]
    faults: tuple[Fault, ...]
    secrets: tuple[str, ...]
    """What is secret among the values."""


def overrides(environ: Mapping[str, str], read_secret: Callable[[str], str]) -> Overrides:
    """Gather the overrides. `read_secret` gives the text of a file, or raises `ValueError` that says why not."""
    ours = {
        name: text for name, text in environ.items() if name.startswith(PREFIX) and text and not _foreign(name, text)
    }
    known = {name: key for key in describe.all_keys() for name in _names(key)}
    found: list[Override] = []
    faults = [_unknown(name, known) for name in sorted(ours) if name not in known and name not in NOT_KEYS]
    if OWNER in ours and owner_of(environ) is None:
        faults.append(Fault(OWNER, "", "not the number of a user; write one such as 1000, as `id -u` shows it"))
    for key in describe.all_keys():
        try:
            override = _override(key, ours, read_secret)
        except _Wrong as wrong:
            faults.append(wrong.fault)
        else:
            found += [override] if override else []
    secret = {key.name for key in describe.all_keys() if key.is_secret}
    secrets = [each.value for each in found if each.key in secret]
    # Not only of those in force: both may be given, which is a fault.
    secrets += [ours[key.variable] for key in describe.all_keys() if key.is_secret and key.variable in ours]
    return Overrides(tuple(found), tuple(faults), tuple(dict.fromkeys(secrets)))


def _names(key: Key) -> tuple[str, ...]:
    return (key.variable, key.variable + FILE_ENDING) if key.is_secret else (key.variable,)


class _Wrong(Exception):
    def __init__(self, fault: Fault) -> None:
        super().__init__(fault)
        self.fault = fault


def _override(key: Key, ours: Mapping[str, str], read_secret: Callable[[str], str]) -> Override | None:
    by_file = key.variable + FILE_ENDING if key.is_secret else ""
    if key.variable in ours and by_file in ours:
        message = f"{by_file} is set as well, and only one can count; unset one of the two"
        raise _Wrong(Fault(f"{key.name} (from {key.variable})", "", message))
    if by_file in ours:
        try:
            text = read_secret(ours[by_file])
        except ValueError as error:
            raise _Wrong(Fault(f"{key.name} (from {by_file})", "", str(error))) from error
        origin = f"secret file {ours[by_file]}"
        return Override(key.name, _value(key, text, origin), origin)
    if key.variable in ours:
        return Override(key.name, _value(key, ours[key.variable], key.variable), f"env {key.variable}")
    return None


def _value(key: Key, text: str, origin: str) -> Any:
    if not key.is_list:
        return text
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        message = """not JSON; write a list such as '["/one", "/two"]'"""
        raise _Wrong(Fault(f"{key.name} (from {origin})", "", message)) from error
    return value


def _unknown(name: str, known: Mapping[str, Key]) -> Fault:
    plain = name.removesuffix(FILE_ENDING)
    if plain in known and not known[plain].is_secret:
        secrets = ", ".join(each for each in known if each.endswith(FILE_ENDING) and known[each].is_secret)
        told = f"unknown variable; only secrets are read from files ({secrets}), so give the value in {plain}"
        return Fault(name, "", told)
    near = nearest(name, (*known, *NOT_KEYS))
    advice = f"the nearest known one is {near}" if near else "`truecopy config schema` lists the keys"
    return Fault(name, "", f"unknown variable; {advice}")


def _foreign(name: str, text: str) -> bool:
    return bool(_SERVICE_LINK.fullmatch(name) or (name.endswith("_PORT") and _SERVICE_URL.fullmatch(text)))
