"""The files under test, read once: alerts, dashboard, provisioning, README; and the expressions in them."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
MONITORING = ROOT / "config" / "monitoring"
PROMETHEUS = MONITORING / "prometheus"
GRAFANA = MONITORING / "grafana"
RULES = PROMETHEUS / "rules" / "truecopy.yml"
README = (MONITORING / "README.md").read_text()

ALERTS: list[dict[str, Any]] = [
    rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
]
DASHBOARD: dict[str, Any] = json.loads((GRAFANA / "dashboards" / "truecopy.json").read_text())
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]

_SELECTOR = re.compile(r"\b(truecopy_\w+|up)\b(\{[^}]*\})?")
_CHOSEN = {"$__rate_interval": "1m", "$pair": ".*"}
"""What Grafana puts in for its variables."""


@dataclass(frozen=True, slots=True)
class Expression:
    """A PromQL expression, and where it stands."""

    place: str
    text: str

    @property
    def selectors(self) -> set[str]:
        """Every metric selector in it, with its matchers."""
        return {match.group() for match in _SELECTOR.finditer(self.text)}

    @property
    def metrics(self) -> set[str]:
        """Every metric name in it."""
        return {match.group(1) for match in _SELECTOR.finditer(self.text)}


def of_alerts() -> list[Expression]:
    """List the expression of each alert."""
    return [Expression(rule["alert"], rule["expr"]) for rule in ALERTS]


def of_dashboard() -> list[Expression]:
    """List the expressions of all panels, with Grafana's variables filled in."""
    return [
        Expression(f"{panel['title']} ({target['refId']})", _filled_in(target["expr"]))
        for panel in PANELS
        for target in panel.get("targets", [])
    ]


def sections() -> dict[str, str]:
    """Give the text of each section of the README by the anchor of its heading."""
    parts = re.split(r"^#+ (.+)$", README, flags=re.MULTILINE)[1:]
    return dict(zip(map(_anchor, parts[::2]), parts[1::2], strict=True))


def strings(value: object) -> Iterator[str]:
    """Walk through parsed YAML or JSON and give every text in it."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from strings(each)
    elif isinstance(value, list):
        for each in value:
            yield from strings(each)


def _filled_in(text: str) -> str:
    for variable, value in _CHOSEN.items():
        text = text.replace(variable, value)
    return text


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
