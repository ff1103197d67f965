"""A configuration is nested three levels deep; what is nested much deeper is refused at once, not looked at."""

import json
import time
from pathlib import Path

import pytest

from job.config.load import read_settings
from job.config.parse import parse
from job.errors import ConfigError

DEEP = "nested too deeply; a configuration has at most three levels"


@pytest.mark.parametrize("count", [33, 900, 3_000, 200_000])
@pytest.mark.parametrize("text", ["{dots}b = 1", "[{dots}b]\nc = 1", "a = {{ {dots}b = 1 }}", "x = 1\n{dots} b = 1"])
def test_a_dotted_key_of_many_levels_is_refused_at_once(count: int, text: str) -> None:
    began = time.monotonic()

    parsed = parse(text.format(dots="a." * count), ".toml")

    assert [fault.message for fault in parsed.faults] == [DEEP]
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("part", ['"a b".', "'a b' . ", "a\t.\t"])
def test_so_is_one_of_quoted_and_spaced_parts(part: str) -> None:
    assert [fault.message for fault in parse(f"{part * 500}b = 1", ".toml").faults] == [DEEP]


@pytest.mark.parametrize("count", [40, 900, 100_000])
@pytest.mark.parametrize(("ends", "name"), [(("[", "]"), "x.json"), (('{"a":', "}"), "x.json"), (("[", "]"), "x.toml")])
def test_so_are_lists_and_tables_in_one_another(count: int, ends: tuple[str, str], name: str) -> None:
    inner = f"{ends[0] * count}1{ends[1] * count}"
    text = f'{{"exclude": {inner}}}' if name.endswith("json") else f"exclude = {inner}"

    assert [fault.message for fault in parse(text, name[1:]).faults] == [DEEP]


def test_many_dots_in_texts_are_no_levels() -> None:
    patterns = [f"*.a{number}.tmp" for number in range(200)]

    parsed = parse(f"exclude = {json.dumps(patterns)}\nlog_file = '{'a' * 100_000}'", ".toml")

    assert parsed.faults == ()
    assert parsed.mapping is not None
    assert parsed.mapping["exclude"] == patterns


def test_a_file_that_is_nested_too_deeply_is_a_fault_of_the_configuration(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text(f"{'a.' * 3_000}b = 1")

    with pytest.raises(ConfigError) as told:
        read_settings(str(path), {})

    assert told.value.faults == (f"line 1: {DEEP}",)


@pytest.mark.parametrize("text", ['{"sleep_time": %s}', "sleep_time = %s"])
def test_a_number_of_very_many_digits_is_told_without_a_word_of_python(text: str) -> None:
    (fault,) = parse(text % ("9" * 5_000), ".json" if text[0] == "{" else ".toml").faults

    assert fault.message == "a number has too many digits; write a shorter one"
