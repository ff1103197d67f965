"""Secrets in a valid or invalid configuration, so that no fault shows them, and where the password may be sent. Pure.

A password from the environment, or from a file of its own, is sent only to an address from the environment: a user who
can edit the configuration file, but cannot read the password, must not choose its destination. Over plain http it is
sent to this machine, or to a host that is allowed by name.
"""

import ipaddress
import re
from collections.abc import Iterator, Mapping
from typing import Any

from job.config import describe, fields
from job.config.consistency import KeyPath, spell
from job.config.faults import MAY_HOLD_A_LOGIN, Fault
from job.config.model import MetricsConfig, PairConfig
from job.core.redaction import Redaction, without_login

_SECRET_KEY = re.compile(r"pass|pasw|pwd|psw|secret|token|credential|api_?key", re.IGNORECASE)
"""Keys, also unknown or misspelt ones, whose values are treated as secrets."""
_ASSIGNMENT = re.compile(r"""([\s{,\[]*["']?(\w+)["']?\s*[:=]\s*)("[^"]*"?|'[^']*'?|[^\s,"'{}\[\]]*)""")
_WORD = re.compile(r"\w")
_BY_CHANCE = 12
"""In characters; a shorter secret may be a word that occurs in other values by chance."""


def one_line(raw: bytes) -> str:
    """Return the secret in a file: its only line, without the line end.

    Raises `ValueError`, which does not show the content.
    """
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("this file is not in UTF-8; save it so") from None
    text = text.removesuffix("\n").removesuffix("\r")
    if not text:
        raise ValueError("this file is empty; write the secret into it")
    if not text.replace("\u00a0", " ").isprintable():
        raise ValueError("this file holds more than one line of text; leave nothing but the secret in it")
    return text


def parts_of(raw: bytes) -> list[str]:
    """Return the possible secrets in a file with more than one line, or with other content."""
    text = raw.decode("utf-8-sig", "replace").replace("\N{REPLACEMENT CHARACTER}", "\n")
    text = "".join(each if each.isprintable() else "\n" for each in text)
    return [part.strip() for part in text.splitlines() if part.strip()]


def secrets_of(mapping: Mapping[str, Any]) -> list[str]:
    """Return the values of secret keys, of any type."""
    found: list[str] = []
    for key in describe.all_keys():
        table, _, name = key.name.rpartition(".")
        section = mapping.get(table) if table else mapping
        if key.is_secret and isinstance(section, Mapping) and name in section:
            found += (text for _, text in _texts(section[name], ()))
    return found


def suspects(mapping: Mapping[str, Any]) -> Iterator[str]:
    """Yield possible secrets elsewhere: values of keys with such names, and logins of addresses."""
    for place, text in _texts(mapping, ()):
        if any(_SECRET_KEY.search(str(part)) for part in place):
            yield text
        login, at, _ = text.rpartition("@")
        if at and ":" in login:
            login = re.sub(r"^[A-Za-z][A-Za-z0-9+.-]*:/+", "", login)
            yield login
            yield login.partition(":")[2]


def quotable(line: str) -> str:
    """Return the part of a line of an unreadable file that may be shown: a known key that is not secret, and its value.

    Other lines are not shown: in a damaged file, a line may be a secret without its key.
    """
    line = line.strip()
    if not _WORD.search(line):
        return line
    found = _ASSIGNMENT.match(line)
    if not found or found[2] not in _harmless_keys():
        return ""
    return f"{found[1]}{without_login(found[3])}".strip()


def _harmless_keys() -> set[str]:
    keys = {key.name.rpartition(".")[2]: key for key in describe.all_keys()}
    harmless = {name for name, key in keys.items() if not key.is_secret and key.name not in MAY_HOLD_A_LOGIN}
    return harmless.union(PairConfig.model_fields)


def copies(mapping: Mapping[str, Any], secrets: list[str]) -> Iterator[Fault]:
    """Yield a fault for each other value that contains a secret, as it would be shown."""
    known = Redaction(secret for secret in secrets if len(secret) >= _BY_CHANCE)
    holders = {key.name for key in describe.all_keys() if key.is_secret}
    for place, text in _texts(mapping, ()):
        if known.secrets and spell(place) not in holders and known.holds(text):
            message = "holds a value that is a secret elsewhere, and would be shown in logs; write something else"
            yield Fault(spell(place), "", message)


def _texts(value: object, place: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    """Yield each scalar value as text, with its key path."""
    if isinstance(value, Mapping):
        for name, part in value.items():
            yield from _texts(part, (*place, name))
    elif isinstance(value, list | tuple):
        for number, part in enumerate(value):
            yield from _texts(part, (*place, number))
    elif value is not None and not isinstance(value, bool):
        yield place, str(value)


ADDRESS, PASSWORD, PLAIN = (f"metrics.pushgateway{ending}" for ending in ("", "_password", "_plain_http"))


def why_withheld(metrics: MetricsConfig, origins: Mapping[str, str]) -> str:
    """Return why the password is not sent to the Pushgateway, and the next step; empty if it is sent or not set.

    `origins` has the source of each value by dotted key.
    """
    if metrics.pushgateway is None or metrics.pushgateway_password is None:
        return ""
    variables = {key.name: key.variable for key in describe.all_keys()}
    bound = origins[PASSWORD] not in _WRITTEN
    if bound and origins[ADDRESS] in _WRITTEN:
        return (
            "the password is not sent, and nothing is pushed: it comes from the environment and the address from the "
            "configuration file, which others may be allowed to edit; give the address beside the password, in "
            f"{variables[ADDRESS]}"
        )
    host = fields.host_of(metrics.pushgateway)
    if metrics.pushgateway.startswith("https:") or _is_here(host):
        return ""
    if (metrics.pushgateway_plain_http or "").lower() == host and not (bound and origins[PLAIN] in _WRITTEN):
        return ""
    where = f"{variables[PLAIN]}={host}" if bound else f'{PLAIN} = "{host}"'
    return (
        f"the password is not sent, and nothing is pushed: over plain http everybody on the way to {host} could read "
        f"it; write an https:// address, or allow this host with {where}"
    )


_WRITTEN = frozenset({"file", "default"})


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
