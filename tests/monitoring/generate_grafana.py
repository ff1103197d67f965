"""Write Grafana's alert rules from the Prometheus rules, which are the source of truth.

Run it by path after editing the rules; `--check` only says, by its exit code, whether the file is up to date.
"""

import re
import sys
from pathlib import Path
from typing import Any

import yaml

MONITORING = Path(__file__).resolve().parents[2] / "config" / "monitoring"
RULES = MONITORING / "prometheus" / "rules" / "truecopy.yml"
TARGET = MONITORING / "grafana" / "provisioning" / "alerting" / "truecopy.yaml"

DATASOURCE_UID = "truecopy-prometheus"
HEADER = "# Generated from ../../../prometheus/rules/truecopy.yml by tests/monitoring/generate_grafana.py.\n"


def grafana_alerting() -> str:
    """Give the text of Grafana's alerting file for the Prometheus rules as they are now."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    content = {
        "apiVersion": 1,
        "groups": [
            {
                "orgId": 1,
                "name": group["name"],
                "folder": "Truecopy",
                "interval": "1m",
                "rules": [_rule(rule) for rule in group["rules"]],
            }
            for group in groups
        ],
    }
    return HEADER + yaml.dump(content, Dumper=_PlainDumper, sort_keys=False, width=120)


def _rule(rule: dict[str, Any]) -> dict[str, Any]:
    """Translate one alert. Prometheus fires for every series an expression returns, whatever its value.

    So the condition asks whether there is a value, no data is well, and only a query that fails is an error.
    """
    return {
        "uid": re.sub(r"(?<!^)(?=[A-Z])", "-", rule["alert"]).lower(),
        "title": rule["alert"],
        "condition": "B",
        "data": [
            _step("A", DATASOURCE_UID, expr=rule["expr"], instant=True, range=False),
            _step("B", "__expr__", type="math", expression="is_number($A) || is_nan($A) || is_inf($A)"),
        ],
        "noDataState": "OK",
        "execErrState": "Error",
        "for": rule.get("for", "0s"),
        "labels": dict(rule["labels"]),
        "annotations": {name: _template(text) for name, text in rule["annotations"].items()},
    }


def _step(ref: str, datasource: str, **model: object) -> dict[str, Any]:
    return {
        "refId": ref,
        "relativeTimeRange": {"from": 600, "to": 0},
        "datasourceUid": datasource,
        "model": {"refId": ref, **model},
    }


def _template(text: str) -> str:
    """Say the same in Grafana's words, without a dollar sign: provisioning may take those for environment variables."""
    return text.replace("$labels.", ".Labels.").replace("$value", ".Values.A.Value")


class _PlainDumper(yaml.SafeDumper):
    """Long expressions as blocks, so that a diff can be read; no anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        del data
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_PlainDumper.add_representer(str, _text)


def main(arguments: list[str]) -> str:
    """Write the file, or with `--check` say how it is out of date; an empty text means all is well."""
    wanted = grafana_alerting()
    if "--check" in arguments:
        return "" if TARGET.read_text() == wanted else f"{TARGET.name} is out of date: run {Path(__file__).name}"
    TARGET.write_text(wanted)
    return ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]) or 0)
