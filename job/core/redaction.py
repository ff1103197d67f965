"""Redaction: masks secrets in all texts of this process. Pure.

`remember` adds secrets, `redacted` masks them: their values, the forms in which libraries quote them (escaped,
percent-encoded, base64 as in an Authorization header), and logins in addresses. Names and paths that users chose are
not changed, even if a weak password is an ordinary word: labels and paths in logs must stay correct.
"""

import base64
import json
import re
from collections.abc import Iterable, Iterator

MASK = "********"
"""Shown in place of a secret."""

_SHORTEST = 4
"""In characters; a shorter secret is part of many words, so it is masked only in quotes or before an @."""
_MOST = 64
"""Number of secrets; the oldest are dropped, so that frequent changes do not slow down the process."""
# Compiled when used: `re` keeps what it compiled, and most starts use none.
_LOGIN = r"(?P<scheme>\b[A-Za-z][A-Za-z0-9+.-]*:/+)[^\s\"'<>]*@"
_SCHEME = r"[A-Za-z][A-Za-z0-9+.-]*://"
_BASE64 = r"[A-Za-z0-9+/_=-]+"
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-~")


class Redaction:
    """Masks secrets, and logins in addresses, in texts."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self.secrets = tuple(dict.fromkeys(secret for secret in secrets if secret))[-_MOST:]
        variants = {variant for secret in self.secrets for variant in _variants(secret)}
        # The longest first: one that contains another is masked as a whole.
        choices = [_as_pattern(variant) for variant in sorted(variants, key=lambda each: (-len(each), each))]
        self._pattern = re.compile("|".join(choices)) if choices else None
        self._coded = sorted({part for secret in self.secrets for part in _base64_parts(secret)})

    def __call__(self, text: str) -> str:
        """Return the text with a mask in place of each secret and each login."""
        if self._pattern is not None:
            text = self._pattern.sub(MASK, text)
        for part in self._coded:
            if part in text:
                text = re.sub(_BASE64, lambda word, part=part: MASK if part in word[0] else word[0], text)  # type: ignore[misc]
        return re.sub(_LOGIN, rf"\g<scheme>{MASK}@", text) if "@" in text else text

    def holds(self, text: str) -> bool:
        """Return whether a secret, in any spelling, is a part of the text."""
        return self._pattern is not None and (
            self._pattern.search(text) is not None or any(part in text for part in self._coded)
        )


class _Process:
    redaction = Redaction()


def remember(secrets: Iterable[str]) -> None:
    """Mask these secrets in all texts of this process from now on."""
    known = _Process.redaction.secrets
    if fresh := [secret for secret in secrets if secret and secret not in known]:
        _Process.redaction = Redaction((*known, *fresh))


def redacted(text: str) -> str:
    """Return a text, such as an error of a library, with all remembered secrets masked."""
    return _Process.redaction(text)


def without_login(value: str) -> str:
    """Mask the login in a value that may be an address.

    The login is the text before the last @, if it contains a colon.
    """
    login, at, host = value.rpartition("@")
    if not at or ":" not in login:
        return value
    scheme = re.match(_SCHEME, value)
    return f"{scheme[0] if scheme else ''}{MASK}@{host}"


def _variants(secret: str) -> Iterator[str]:
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


def _as_pattern(variant: str) -> str:
    pattern = re.escape(variant)
    return pattern if len(variant) >= _SHORTEST else rf"""(?<=["':]){pattern}(?=["'@])"""


def _percent_encoded(octets: bytes, safe: str) -> str:
    return "".join(chr(each) if chr(each) in _UNRESERVED or chr(each) in safe else f"%{each:02X}" for each in octets)


def _base64_parts(secret: str) -> Iterator[str]:
    """Yield the parts common to the base64 of all texts with this secret; they depend on its offset modulo 3."""
    octets = secret.encode("utf-8", "surrogatepass")
    for before in range(3):
        coded = base64.b64encode(b"\0" * before + octets).decode("ascii")
        # The characters at both ends also encode bits of neighbouring text.
        first, last = (0, 2, 3)[before], (before + len(octets)) * 8 // 6
        part = coded[first:last]
        if len(part) >= _SHORTEST:
            yield part
            yield part.translate({ord("+"): "-", ord("/"): "_"})
