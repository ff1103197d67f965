"""Redaction: no secret is in any text that leaves this program. Pure.

There is one `Redaction` for everything that the process tells: `remember` adds to what it knows, `redacted` applies it.
It knows the values of secrets, the spellings in which libraries quote them (escaped, percent-encoded, base64 as in an
Authorization header), and logins in addresses. Names and paths that users chose are not changed: a metric's label and
the path in a log line stay what they are, also where a weak password is an ordinary word.
"""

import base64
import json
import re
from collections.abc import Iterable, Iterator

MASK = "********"
"""What is shown in place of a secret."""

_SHORTEST = 4
"""Characters; a shorter secret is masked only in quotes or in front of an @: it is a part of too many words."""
_MOST = 64
"""Secrets that are known at a time; who changes them all the time does not make the work slower."""
_LOGIN = re.compile(r"(?P<scheme>\b[A-Za-z][A-Za-z0-9+.-]*:/+)[^\s\"'<>]*@")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_BASE64 = re.compile(r"[A-Za-z0-9+/_=-]+")
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-~")


class Redaction:
    """Masks some secrets, and logins in addresses, in any text."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self.secrets = tuple(dict.fromkeys(secret for secret in secrets if secret))[-_MOST:]
        spellings = {spelling for secret in self.secrets for spelling in _spellings(secret)}
        # The longest first, so that what holds another is masked as a whole.
        choices = [_as_pattern(spelling) for spelling in sorted(spellings, key=lambda each: (-len(each), each))]
        self._pattern = re.compile("|".join(choices)) if choices else None
        self._coded = sorted({part for secret in self.secrets for part in _base64_parts(secret)})

    def __call__(self, text: str) -> str:
        """Give the text with a mask in place of each secret and each login."""
        if self._pattern is not None:
            text = self._pattern.sub(MASK, text)
        for part in self._coded:
            if part in text:
                text = _BASE64.sub(lambda word, part=part: MASK if part in word[0] else word[0], text)  # type: ignore[misc]
        return _LOGIN.sub(rf"\g<scheme>{MASK}@", text) if "@" in text else text

    def holds(self, text: str) -> bool:
        """Tell whether a secret, in any spelling, is a part of the text."""
        return self._pattern is not None and (
            self._pattern.search(text) is not None or any(part in text for part in self._coded)
        )


class _Process:
    redaction = Redaction()


def remember(secrets: Iterable[str]) -> None:
    """Let no text of this process hold these secrets from now on."""
    known = _Process.redaction.secrets
    if fresh := [secret for secret in secrets if secret and secret not in known]:
        _Process.redaction = Redaction((*known, *fresh))


def redacted(text: str) -> str:
    """Give a text, such as a library's error, without any secret that this process knows."""
    return _Process.redaction(text)


def without_login(value: str) -> str:
    """Give a value that may be an address, however it is spelled, without the login that may be in it.

    The login is all before the last @, whatever characters a password has, if there is a colon in it.
    """
    login, at, host = value.rpartition("@")
    if not at or ":" not in login:
        return value
    scheme = _SCHEME.match(value)
    return f"{scheme[0] if scheme else ''}{MASK}@{host}"


def _spellings(secret: str) -> Iterator[str]:
    octets = secret.encode("utf-8", "surrogatepass")
    plain = {
        secret,
        secret.strip(),
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        repr(secret)[1:-1],
        repr(octets)[2:-1],
        "".join(each if each.isprintable() else repr(each)[1:-1] for each in secret),
        octets.decode("latin-1"),
        _percent_encoded(octets, ""),
        _percent_encoded(octets, "/"),
        _percent_encoded(octets, "").replace("%20", "+"),
    }
    plain |= {re.sub("%[0-9A-F]{2}", lambda code: code[0].lower(), each) for each in plain if "%" in each}
    yield from (each for each in plain if each)


def _as_pattern(spelling: str) -> str:
    pattern = re.escape(spelling)
    return pattern if len(spelling) >= _SHORTEST else rf"""(?<=["':]){pattern}(?=["'@])"""


def _percent_encoded(octets: bytes, safe: str) -> str:
    return "".join(chr(each) if chr(each) in _UNRESERVED or chr(each) in safe else f"%{each:02X}" for each in octets)


def _base64_parts(secret: str) -> Iterator[str]:
    """Give what the base64 of any text with this secret in it holds: it depends on where the secret begins only."""
    octets = secret.encode("utf-8", "surrogatepass")
    for before in range(3):
        coded = base64.b64encode(b"\0" * before + octets).decode("ascii")
        # Characters at both ends come of neighbours, too: of a character's 6 bits some are not the secret's.
        first, last = (0, 2, 3)[before], (before + len(octets)) * 8 // 6
        part = coded[first:last]
        if len(part) >= _SHORTEST:
            yield part
            yield part.translate({ord("+"): "-", ord("/"): "_"})
