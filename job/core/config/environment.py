"""What the environment says about the configuration: `TRUECOPY_<KEY>`, and `..._FILE` for secrets. Pure.

An empty variable counts as not set, because compose files write `${NAME:-}` for "unless somebody sets it".
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from job.core.config import describe
from job.core.config.describe import Key
from job.core.config.effective import PREFIX
from job.core.config.faults import Fault, nearest

NOT_KEYS = ("TRUECOPY_CONFIG",)
"""Variables with our prefix that are no keys."""

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


def overrides(environ: Mapping[str, str], read_secret: Callable[[str], str]) -> Overrides:
    """Gather the overrides. `read_secret` gives the text of a file, or raises `ValueError` that says why not."""
    ours = {
        name: text for name, text in environ.items() if name.startswith(PREFIX) and text and not _foreign(name, text)
    }
    known = {name: key for key in describe.all_keys() for name in (key.variable, f"{key.variable}_FILE")}
    found: list[Override] = []
    faults = [_unknown(name, known) for name in sorted(ours) if name not in known and name not in NOT_KEYS]
    for key in describe.all_keys():
        try:
            override = _override(key, ours, read_secret)
        except _Wrong as wrong:
            faults.append(wrong.fault)
        else:
            found += [override] if override else []
    return Overrides(tuple(found), tuple(faults))


class _Wrong(Exception):
    def __init__(self, fault: Fault) -> None:
        super().__init__(fault)
        self.fault = fault


def _override(key: Key, ours: Mapping[str, str], read_secret: Callable[[str], str]) -> Override | None:
    by_file = f"{key.variable}_FILE"
    if key.variable in ours and by_file in ours:
        message = f"{by_file} is set as well, and only one can count; unset one of the two"
        raise _Wrong(Fault(f"{key.name} (from {key.variable})", "", message))
    if by_file in ours:
        try:
            text = read_secret(ours[by_file])
        except ValueError as error:
            raise _Wrong(Fault(f"{key.name} (from {by_file})", json.dumps(ours[by_file]), str(error))) from error
        origin = f"secret file {ours[by_file]}"
        return Override(key.name, _value(key, text.removesuffix("\n").removesuffix("\r"), origin), origin)
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
    near = nearest(name, (*known, *NOT_KEYS))
    advice = f"the nearest known one is {near}" if near else "`truecopy config schema` lists the keys"
    return Fault(name, "", f"unknown variable; {advice}")


def _foreign(name: str, text: str) -> bool:
    return bool(_SERVICE_LINK.fullmatch(name) or (name.endswith("_PORT") and _SERVICE_URL.fullmatch(text)))
