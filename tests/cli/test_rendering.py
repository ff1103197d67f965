"""What commands print of any name: one line, nothing that a terminal acts upon in it, and every byte for programs."""

import base64
import json

from hypothesis import given
from hypothesis import strategies as st

from job.cli import compare, plan
from job.core.entry import Kind
from job.tasks.compare import WHATS, Difference
from job.tasks.preview import Planned
from tests.core.configs import in_force

names = st.binary(max_size=300) | st.text(max_size=80).map(lambda text: text.encode("utf-8", "surrogatepass"))
texts = st.text(st.characters(), max_size=80)
"""With surrogates, as they stand for bytes in paths of errors."""
kinds = st.sampled_from(Kind)
(PAIR,) = in_force(source_dirs=["/source"], dest_dirs=["/mirror"]).effective_pairs


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


@given(names, kinds, st.sampled_from(WHATS), texts)
def test_a_difference(path: bytes, kind: Kind, what: str, detail: str) -> None:
    difference = Difference(path, kind, what, detail)

    assert is_one_plain_line(compare._as_text(PAIR, difference))
    assert compare._as_json(PAIR, difference).isascii()
    assert is_one_plain_line(compare._as_json(PAIR, difference))
    assert bytes_told(compare._as_json(PAIR, difference)) == path
