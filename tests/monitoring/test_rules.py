"""The Prometheus rules: valid, with firing and silent cases for every alert, and with advice that exists."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from job.core.metric_names import OUTPUTS
from job.core.outcome import BrakeReason, Drift, Failure, Refusal
from job.events.text import SENTENCES
from tests.monitoring.texts import ALERTS, PROMETHEUS, README, RULES, sections, strings

CASES = sorted((PROMETHEUS / "tests").glob("*.yml"))
NAMES = [rule["alert"] for rule in ALERTS]


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, check=False)


@pytest.mark.needs_tool("promtool")
def test_promtool_accepts_the_configuration_and_its_rules() -> None:
    checked = promtool("check", "config", PROMETHEUS / "prometheus.yml")

    assert checked.returncode == 0, checked.stderr + checked.stdout
    assert f"{len(ALERTS)} rules found" in checked.stdout


@pytest.mark.timeout(400)
@pytest.mark.needs_tool("promtool")
def test_every_case_of_every_alert_comes_out_as_expected() -> None:
    tested = promtool("test", "rules", *CASES)

    assert tested.returncode == 0, tested.stderr + tested.stdout


@pytest.mark.parametrize("name", NAMES)
def test_an_alert_has_firing_and_silent_cases_and_one_without_its_series(name: str) -> None:
    tests = [test for path in CASES for test in yaml.safe_load(path.read_text())["tests"]]
    outcomes = [bool(case["exp_alerts"]) for test in tests for case in cases_of(test) if case["alertname"] == name]
    restarts = [
        test for test in tests if cases_of(test, name) and any("_x" in s["values"] for s in test["input_series"])
    ]

    assert set(outcomes) == {True, False}
    assert restarts, "no case has a gap in its series, as a restart makes it"


def cases_of(test: dict[str, Any], name: str = "") -> list[dict[str, Any]]:
    return [case for case in test["alert_rule_test"] if name in ("", case["alertname"])]


@pytest.mark.parametrize("rule", ALERTS, ids=NAMES)
def test_an_alert_tells_how_bad_it_is_and_what_to_do_next_without_a_link(rule: dict[str, Any]) -> None:
    assert rule["labels"] == {"severity": rule["labels"]["severity"]}
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    assert set(rule["annotations"]) == {"summary", "description"}
    _, _, step = rule["annotations"]["description"].partition(" Next: ")
    assert re.match(r"(look|run) .{20,}\.$", step)
    assert not [text for text in strings(rule["annotations"]) if re.search(r"://|\.md\b|#", text)]
    assert sections()[rule["alert"].lower()].strip().startswith(f"*{rule['labels']['severity']}.*")


def test_the_next_step_of_an_alert_names_what_exists() -> None:
    steps = " ".join(rule["annotations"]["description"].partition(" Next: ")[2] for rule in ALERTS)

    events = {word for word in re.findall(r"look for ([a-z_, and]+?) in the log", steps) for word in word.split()}
    assert {word.strip(",") for word in events} - {"and"} <= set(SENTENCES)
    commands = set(re.findall(r"run truecopy (\w+(?: check)?)", steps))
    assert commands == {"status", "config check", "plan", "approve"}


@pytest.mark.parametrize(
    ("alert", "words"),
    [
        ("TruecopyFilesFailing", Failure),
        ("TruecopyPairRefused", Refusal),
        ("TruecopyHeld", BrakeReason),
        ("TruecopyDriftFound", Drift),
    ],
)
def test_the_advice_names_every_reason(alert: str, words: type[Failure | Refusal | BrakeReason | Drift]) -> None:
    advice = sections()[alert.lower()]

    assert [word.value for word in words if f"`{word.value}`" not in advice] == []


def test_the_advice_on_outputs_names_every_output() -> None:
    assert [output for output in OUTPUTS if f"`{output}`" not in sections()["truecopyoutputfailing"]] == []


def test_nothing_says_that_an_engine_restarts_what_is_unhealthy() -> None:
    told = [line for line in README.splitlines() if "unhealthy" in line]

    assert told
    assert [line for line in told if "does not restart" not in line] == []


def test_every_test_file_tests_the_shipped_rules() -> None:
    named = {path.parent / file for path in CASES for file in yaml.safe_load(path.read_text())["rule_files"]}

    assert {path.resolve() for path in named} == {RULES.resolve()}
