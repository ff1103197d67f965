"""Every expression, executed by a real Prometheus that scrapes a real service: it parses and finds something."""

import subprocess

import pytest
from prometheus_client.parser import text_string_to_metric_families

from job.core.outcome import Result
from tests.monitoring.stack import Stack
from tests.monitoring.texts import DASHBOARD, README, Expression, of_alerts, of_dashboard
from tests.repo.catalogue import metric_catalogue

PANELS = of_dashboard()
ALERTS = of_alerts()
PANEL_RESULTS = ("success", "partial", "refused", "failed", "busy", "stopped", "held")

needs_prometheus = pytest.mark.needs_tool("prometheus")


def places(expressions: list[Expression]) -> list[str]:
    return [expression.place for expression in expressions]


def exposed(stack: Stack) -> set[str]:
    families = text_string_to_metric_families(stack.site.exposition())
    return {sample.name for family in families for sample in family.samples}


@needs_prometheus
@pytest.mark.parametrize("expression", PANELS, ids=places(PANELS))
def test_a_panel_shows_something(expression: Expression, stack: Stack) -> None:
    assert stack.prometheus.query(expression.text), expression.text


@needs_prometheus
@pytest.mark.parametrize("expression", ALERTS, ids=places(ALERTS))
def test_an_alert_can_be_evaluated_and_all_it_looks_at_is_there(expression: Expression, stack: Stack) -> None:
    stack.prometheus.query(expression.text)

    assert expression.selectors
    assert [each for each in expression.selectors if not stack.prometheus.query(each)] == []


@needs_prometheus
def test_no_expression_names_a_metric_the_service_does_not_expose(stack: Stack) -> None:
    named = {metric for expression in ALERTS + PANELS for metric in expression.metrics}

    assert named - exposed(stack) == {"up"}


@needs_prometheus
def test_every_metric_of_the_service_is_documented_and_shown_somewhere(stack: Stack) -> None:
    named = {metric for expression in ALERTS + PANELS for metric in expression.metrics}

    assert [metric for metric in exposed(stack) if f"| `{metric}` |" not in README] == []
    assert exposed(stack) - named == set()


def test_the_table_of_metrics_is_the_catalogue() -> None:
    table = README.partition("<!-- metrics: made by `make docs` -->\n\n")[2].partition("<!-- end of metrics")[0]

    assert table == metric_catalogue()


@needs_prometheus
@pytest.mark.needs_tool("promtool")
def test_promtool_finds_nothing_to_mend_in_the_metrics(stack: Stack) -> None:
    text = stack.site.exposition()

    checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)

    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


@needs_prometheus
def test_the_dashboard_is_red_for_a_refused_pair_and_green_for_a_healthy_one(stack: Stack) -> None:
    [panel] = [panel for panel in DASHBOARD["panels"] if panel["title"] == "Result of the last cycle"]
    [mapping] = panel["fieldConfig"]["defaults"]["mappings"]
    [expression] = [each for each in PANELS if each.place.startswith(panel["title"])]

    found = {each["metric"]["pair"]: each["value"][1] for each in stack.prometheus.query(expression.text)}

    shown = {
        pair: (mapping["options"][code]["text"], mapping["options"][code]["color"]) for pair, code in found.items()
    }
    assert shown == {
        "good": ("success", "green"),
        "bad": ("partial", "orange"),
        "late": ("partial", "orange"),
        "gone": ("refused", "red"),
    }
    assert [option["text"] for option in mapping["options"].values()] == ["none yet", *PANEL_RESULTS]
    assert set(PANEL_RESULTS) == set(Result)
