"""What single values have to be, beyond their type. Pure; every refusal says what would be right."""

import ipaddress
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from job.core import schedule as schedules
from job.core.exclude import Rules

if TYPE_CHECKING:
    from pydantic import SecretStr

_WEB = re.compile(r"https?://(?P<host>[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\])(:(?P<port>\d{1,5}))?(/[!-\"$->A-~]*)?")
_LAST_PORT = 65535
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,252})")


@dataclass(frozen=True, slots=True)
class Words:
    """Beside a type: how people call what may be written there."""

    text: str


def run_switch(value: object) -> object:
    """Refuse what looks like a switch but is not the original's: only the text `"Y"` runs."""
    if isinstance(value, str):
        return value
    msg = 'not text; write "Y" to run or "N" to do nothing'
    raise ValueError(msg)


def no_switch(value: object) -> object:
    """Refuse true and false where a number belongs: Python would take them for 1 and 0."""
    if isinstance(value, bool):
        msg = "not a whole number; write digits, such as 9477"
        raise ValueError(msg)  # noqa: TRY004  (pydantic words ValueError, not TypeError)
    return value


def path(text: str) -> str:
    """Refuse what no path can hold."""
    if "\0" in text:
        msg = "holds a NUL character, which no path can; write the path without it"
        raise ValueError(msg)
    return text


def path_in_source(text: str) -> str:
    """Refuse what is no path below a source."""
    parts = path(text).split("/")
    if text.startswith("/") or ".." in parts or not any(part not in {"", "."} for part in parts):
        msg = "not a path inside the source; write one such as 'photos' or 'photos/2024', without a leading / or .."
        raise ValueError(msg)
    return text


def pattern(text: str) -> str:
    """Refuse a pattern that can never match anything; git accepts it without a word."""
    if "\0" in text:
        msg = "holds a NUL character, which no name can; write the pattern without it"
        raise ValueError(msg)
    try:
        Rules((text,))
    except UnicodeEncodeError as error:
        msg = "holds half a character, which no name can; write the whole character"
        raise ValueError(msg) from error
    except ValueError as error:
        msg = f"no gitignore pattern that could match: {error.__cause__}; write one such as '*.tmp' or '/cache/'"
        raise ValueError(msg) from error
    return text


def zone(name: str) -> str:
    """Refuse a time zone that is not known."""
    try:
        ZoneInfo(name)
    except (OSError, ValueError, LookupError) as error:
        msg = "not an IANA time zone; write one such as 'Europe/Berlin' or 'UTC'"
        raise ValueError(msg) from error
    return name


def schedule(text: str) -> str:
    """Refuse a schedule that cannot be read."""
    schedules.parse_schedule(text)
    return text


def textfile(name: str) -> str:
    """Refuse a textfile that node-exporter would not look at."""
    if not name.endswith(".prom"):
        msg = "node-exporter reads only names that end in .prom; write one such as '/textfile/truecopy.prom'"
        raise ValueError(msg)
    return name


def address(text: str) -> str:
    """Refuse what is neither an IP address nor a host name."""
    try:
        ipaddress.ip_address(text)
    except ValueError as error:
        if not _HOST.fullmatch(text):
            msg = "neither an IP address nor a host name; write one such as '127.0.0.1', '0.0.0.0' or '::'"
            raise ValueError(msg) from error
    return text


def web_address(url: str) -> str:
    """Refuse what is no http(s) address, and one with a login in it, since addresses end up in logs."""
    right = "write one such as 'http://pushgateway:9091'"
    if "@" in url:
        msg = f"holds a login; {right} and give the login as pushgateway_username and pushgateway_password"
        raise ValueError(msg)
    if "?" in url or "#" in url:
        msg = f"holds a query, to which no path can be added; {right}"
        raise ValueError(msg)
    found = _WEB.fullmatch(url)
    if not found:
        msg = f"not an http or https address; {right}"
        raise ValueError(msg)
    if found["port"] and not 0 < int(found["port"]) <= _LAST_PORT:
        msg = f"no port has this number; {right}, with a port from 1 to {_LAST_PORT}"
        raise ValueError(msg)
    return url


def host_of(url: str) -> str:
    """Give the host of a web address as it is compared: in lower case, and an IPv6 address without its brackets."""
    match = _WEB.fullmatch(url)
    return match["host"].strip("[]").lower() if match else ""


def password(secret: "SecretStr") -> "SecretStr":
    """Refuse a password that cannot be sent, as one with half a character; nothing of it is told."""
    try:
        secret.get_secret_value().encode()
    except UnicodeEncodeError:
        msg = "not valid Unicode; write it in UTF-8, without lone surrogates"
        raise ValueError(msg) from None
    return secret


def user_name(text: str) -> str:
    """Refuse a user that basic authentication cannot send: the server takes what is behind a colon for the password."""
    if ":" in text:
        msg = "holds a colon, which no user of basic authentication can; write the user alone"
        raise ValueError(msg)
    return text
