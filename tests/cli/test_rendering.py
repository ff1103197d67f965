"""What commands print of any name: one line, nothing that a terminal acts upon in it, and every byte for programs."""

import base64
import json

from hypothesis import given
from hypothesis import strategies as st

from job.app.status import PairStatus, SandboxStatus
from job.cli import compare, plan
from job.cli.status_text import Facts, plain_lines
from job.core.counts import FailedEntry, PairHistory, PairProblem, Tally
from job.core.entry import Kind
from job.core.outcome import Failure, Result
from job.engine.dry_run import Planned
from job.engine.tree_compare import HARMLESS, Difference
from tests.config.configs import to_settings

names = st.binary(max_size=300) | st.text(max_size=80).map(lambda text: text.encode("utf-8", "surrogatepass"))
texts = st.text(st.characters(), max_size=80)
"""With surrogates, as they stand for bytes in paths of errors."""
kinds = st.sampled_from(Kind)
(PAIR,) = to_settings(source_dirs=["/source"], dest_dirs=["/mirror"]).effective_pairs


def is_one_plain_line(text: str) -> bool:
    return text.isprintable()


def bytes_told(line: str) -> bytes:
    told = json.loads(line)
    return base64.b64decode(told["path_base64"]) if "path_base64" in told else told["path"].encode()


@given(names, kinds, texts)
def test_a_step_of_a_plan(path: bytes, kind: Kind, reason: str) -> None:
    step = Planned("pair", "copy", path, kind, 1, reason)

    assert is_one_plain_line(plan._as_text(step))
    assert plan._as_json(step).isascii()
    assert is_one_plain_line(plan._as_json(step))
    assert bytes_told(plan._as_json(step)) == path


@given(names, kinds, st.sampled_from(["missing", "content", *sorted(HARMLESS)]), texts)
def test_a_difference(path: bytes, kind: Kind, what: str, detail: str) -> None:
    difference = Difference(path, kind, what, detail)

    assert is_one_plain_line(compare._as_text(PAIR, difference))
    assert compare._as_json(PAIR, difference).isascii()
    assert is_one_plain_line(compare._as_json(PAIR, difference))
    assert bytes_told(compare._as_json(PAIR, difference)) == path


def facts_of(history: PairHistory) -> Facts:
    pair = PairStatus("music", "/s", "/m", history, None, [], "missing", "", (12_345, 10**9), 10**12)
    return Facts(
        now=10**9,
        alive=False,
        service="not running",
        next_due=None,
        disabled="",
        sandbox=SandboxStatus("off", None, "off"),
        pairs=[pair],
        overdue=frozenset(),
    )


def test_a_refusal_is_shown_with_since_when_why_and_the_next_step() -> None:
    trouble = PairProblem("pair_refused", "source_missing", "the source /s does not exist", "Check that it is mounted.")
    history = PairHistory(
        result=Result.REFUSED,
        last_attempt_timestamp_seconds=10**9 - 180,
        result_since_timestamp_seconds=10**9 - 5 * 86400,
        trouble=trouble,
    )

    lines = list(plain_lines(facts_of(history)))

    assert "music: refused 3 minutes ago (at 2001-09-09T01:43:40Z), for 5 days now" in lines
    assert "    the mirror is missing" in lines
    assert "    last success: never" in lines
    assert "    why: source_missing: the source /s does not exist" in lines
    assert "    hint: Check that it is mounted." in lines
    assert "    mirror: 12,345 files, 1.0 GB; 1.0 TB free on its disk" in lines


@given(names, texts)
def test_the_first_failing_names_are_each_one_plain_line(path: bytes, error: str) -> None:
    history = PairHistory(
        result=Result.PARTIAL,
        last_attempt_timestamp_seconds=10**9 - 180,
        tally=Tally(failed_by={Failure.PERMISSION: 8}),
        failing=(FailedEntry(path, "permission", error),),
    )

    *_, failed, first, more = plain_lines(facts_of(history))

    assert (failed, more) == ("    8 failed: permission 8", "        and 7 more, see the log")
    assert is_one_plain_line(first)
    assert len(first) < 320
