"""Grafana's files: alerts that say what Prometheus says, a dashboard without the usual mistakes, mounts that fit."""

import subprocess
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.monitoring.texts import ALERTS, DASHBOARD, GRAFANA, PANELS, PROMETHEUS, ROOT, strings

PROVISIONED = sorted((GRAFANA / "provisioning").rglob("*.yaml"))
DATASOURCE = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yaml").read_text())["datasources"][0]
RULES: list[dict[str, Any]] = yaml.safe_load((GRAFANA / "provisioning/alerting/truecopy.yaml").read_text())["groups"][
    0
]["rules"]
SERVICES = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
DRAWN = [panel for panel in PANELS if panel["type"] != "row"]
VARIABLE = {"type": "prometheus", "uid": "${datasource}"}


def titles(panels: list[dict[str, Any]]) -> list[str]:
    return [panel["title"] for panel in panels]


def test_the_alerts_are_generated_from_the_prometheus_rules() -> None:
    generator = Path(__file__).with_name("generate_grafana.py")

    checked = subprocess.run([sys.executable, generator, "--check"], capture_output=True, text=True, check=False)

    assert checked.returncode == 0, checked.stderr


def test_both_alert_in_the_same_words_about_the_same_expressions() -> None:
    ours = [(rule["alert"], rule["expr"], rule.get("for", "0s"), rule["labels"]) for rule in ALERTS]

    assert [(r["title"], r["data"][0]["model"]["expr"], r["for"], r["labels"]) for r in RULES] == ours


@pytest.mark.parametrize("rule", RULES, ids=[rule["title"] for rule in RULES])
def test_an_alert_of_grafana_can_be_loaded(rule: dict[str, Any]) -> None:
    refs = [step["refId"] for step in rule["data"]]

    assert rule["condition"] in refs
    assert len(rule["uid"]) <= 40
    assert [step["model"]["refId"] for step in rule["data"]] == refs
    assert [step["datasourceUid"] for step in rule["data"]] == [DATASOURCE["uid"], "__expr__"]
    assert rule["noDataState"] == "OK", "no series means no alert, as in Prometheus"


def test_no_annotation_has_a_dollar_that_grafana_could_take_for_its_environment() -> None:
    assert [text for rule in RULES for text in strings(rule["annotations"]) if "$" in text] == []


def test_uids_are_unique() -> None:
    uids = [rule["uid"] for rule in RULES]

    assert len(set(uids)) == len(uids)


def test_nothing_provisioned_replaces_the_notification_tree_of_the_user() -> None:
    keys = {key for path in PROVISIONED for key in yaml.safe_load(path.read_text())}

    assert keys == {"apiVersion", "datasources", "providers", "groups"}


def test_the_example_that_does_so_says_it() -> None:
    example = (GRAFANA / "examples/contact-points.yaml").read_text()

    assert "REPLACES" in example
    assert yaml.safe_load(example)["policies"][0]["receiver"] == yaml.safe_load(example)["contactPoints"][0]["name"]


def test_panels_have_ids_and_titles_of_their_own() -> None:
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    assert len(set(titles(PANELS))) == len(PANELS)
    assert DASHBOARD["uid"]
    assert DASHBOARD["schemaVersion"] >= 39


def test_panels_lie_on_the_grid_side_by_side() -> None:
    places = {panel["title"]: cells(panel["gridPos"]) for panel in PANELS}

    assert [title for title, place in places.items() if max(x for x, _ in place) > 23] == []
    assert [(a, b) for a, b in combinations(places, 2) if places[a] & places[b]] == []


def cells(place: dict[str, int]) -> set[tuple[int, int]]:
    return {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}


@pytest.mark.parametrize("panel", DRAWN, ids=titles(DRAWN))
def test_a_panel_explains_itself_and_lets_the_reader_choose_the_data_source(panel: dict[str, Any]) -> None:
    assert len(panel["description"]) > 20
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["datasource"] == VARIABLE
    assert [target["datasource"] for target in panel["targets"]] == [VARIABLE] * len(panel["targets"])
    assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
    assert all(target["legendFormat"] for target in panel["targets"])


def test_every_variable_is_defined_and_used() -> None:
    defined = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    texts = "\n".join(strings(PANELS))

    assert defined == {"datasource", "pair"}
    assert "$pair" in texts
    assert "${datasource}" in texts


def test_the_compose_file_mounts_what_the_files_expect() -> None:
    (provider,) = yaml.safe_load((GRAFANA / "provisioning/dashboards/truecopy.yaml").read_text())["providers"]
    mounts = {
        (ROOT / volume["source"]).resolve(): volume["target"]
        for service in ("prometheus", "grafana")
        for volume in SERVICES[service]["volumes"]
        if volume["type"] == "bind"
    }

    assert mounts == {
        PROMETHEUS: "/etc/prometheus",
        GRAFANA / "provisioning": "/etc/grafana/provisioning",
        GRAFANA / "dashboards": provider["options"]["path"],
    }


def test_only_hosts_that_the_compose_file_starts_are_named() -> None:
    (scrape,) = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["scrape_configs"]
    ((target,),) = [static["targets"] for static in scrape["static_configs"]]

    assert target == "truecopy:9477"
    assert DATASOURCE["url"] == "http://prometheus:9090"
    assert {"truecopy", "prometheus", "grafana"} <= set(SERVICES)
    assert {tuple(SERVICES[name]["profiles"]) for name in ("prometheus", "grafana")} == {("monitoring",)}
