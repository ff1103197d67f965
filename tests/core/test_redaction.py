"""No text holds a secret, in whatever spelling a library quotes it; names and paths that are no secret stay."""

import base64
import json
import re
import urllib.parse
from collections.abc import Callable

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from job.core.entry import Kind
from job.core.redaction import MASK, Redaction, redacted, remember, without_login
from job.events.base import Event
from job.events.bus import Bus
from job.events.pair import FileCopied, PairStarted
from job.events.service import OutputFailed

SECRETS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=8, max_size=40)
SPELLINGS: dict[str, Callable[[str], str]] = {
    "plain": lambda secret: secret,
    "JSON": json.dumps,
    "JSON in Unicode": lambda secret: json.dumps(secret, ensure_ascii=False),
    "repr": repr,
    "bytes": lambda secret: repr(secret.encode()),
    "latin-1": lambda secret: secret.encode().decode("latin-1"),
    "quoted": urllib.parse.quote,
    "quoted wholly": lambda secret: urllib.parse.quote(secret, safe=""),
    "as a form": urllib.parse.quote_plus,
    "quoted in lower case": lambda secret: re.sub("%..", lambda code: code[0].lower(), urllib.parse.quote(secret)),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@given(secret=SECRETS, before=st.text(max_size=5), after=st.text(max_size=5))
@example(secret="pä:ss/ wörd", before="", after="")
def test_no_spelling_of_a_secret_is_left(spelling: str, secret: str, before: str, after: str) -> None:
    spelled = SPELLINGS[spelling](secret)
    assume(secret.strip() and spelled not in before + MASK + after)

    assert spelled not in Redaction([secret])(f"{before}{spelled}{after}")


@given(secret=SECRETS, user=st.text(max_size=9), more=st.text(max_size=3))
def test_no_base64_of_a_login_is_left(secret: str, user: str, more: str) -> None:
    octets = f"{user}:{secret}{more}".encode(errors="surrogatepass")

    for coded in (base64.b64encode(octets), base64.urlsafe_b64encode(octets)):
        assert Redaction([secret])(f"Authorization: Basic {coded.decode()}.") == f"Authorization: Basic {MASK}."


def test_the_longer_of_two_secrets_is_masked_as_a_whole() -> None:
    assert Redaction(["hunter2", "hunter2-and-more"])("hunter2-and-more, hunter2") == f"{MASK}, {MASK}"


def test_a_short_secret_is_masked_where_it_is_a_value_and_not_within_words() -> None:
    mask = Redaction(["abc"])

    assert mask("""'abc', "abc", http://u:abc@host, abcde""") == f"""'{MASK}', "{MASK}", http://{MASK}@host, abcde"""


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("http://u:hunter2@gw:9091", f"http://{MASK}@gw:9091"),
        ("u:hunter2@gw:9091", f"{MASK}@gw:9091"),
        ("http:/u:hunter2@gw:9091", f"{MASK}@gw:9091"),
        ("http://u:hunter2/x@gw:9091", f"http://{MASK}@gw:9091"),
        ("http://u:hun@ter2@gw:9091", f"http://{MASK}@gw:9091"),
        ("http://u:hunter2 x@gw:9091", f"http://{MASK}@gw:9091"),
        ("https:u:hunter2@gw", f"{MASK}@gw"),
        ("//u:hunter2@gw", f"{MASK}@gw"),
        ("http://gw:9091", "http://gw:9091"),
        ("/srv/@home/me", "/srv/@home/me"),
    ],
)
def test_a_value_is_shown_without_its_login_however_that_is_spelled(address: str, shown: str) -> None:
    assert without_login(address) == shown


def test_a_text_is_shown_without_the_logins_of_its_addresses() -> None:
    text = "cannot reach http://u:hunter2@gw:9091/x or smb://me@nas (me@example.org)"

    assert redacted(text) == f"cannot reach http://{MASK}@gw:9091/x or smb://{MASK}@nas (me@example.org)"


def test_a_secret_that_changes_all_the_time_does_not_fill_the_memory() -> None:
    assert len(Redaction(f"secret number {number}" for number in range(1000)).secrets) == 64


def test_every_listener_hears_the_words_of_an_error_without_secrets_and_names_as_they_are() -> None:
    remember(["a-music-password"])
    told: list[Event] = []
    bus = Bus([told.append])
    copied = FileCopied(
        cycle_id="c",
        pair="a-music-password",
        path=b"a-music-password",
        kind=Kind.FILE,
        bytes=1,
        checksum="sha256:00",
        permissions="644",
        reason="new",
        duration_seconds=0.1,
    )

    bus.failed("pushgateway", "denied for a-music-password")
    bus.emit(copied)
    bus.emit(PairStarted(cycle_id="c", pair="p", source="/a-music-password", mirror="/m", audit=False))

    assert told[0] == OutputFailed(output="pushgateway", error=f"denied for {MASK}")
    assert told[1] is copied
    assert vars(told[2])["source"] == "/a-music-password"
