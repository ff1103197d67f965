"""The recipe for a restore in README: a Job with the pod of the CronJob and arguments that the command takes."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.needs_tool("jq")
def test_the_recipe_makes_a_job_whose_arguments_are_a_command_line() -> None:
    page = (ROOT / "k8s" / "README.md").read_text("utf-8").partition("\n## Restore\n")[2]
    [program] = re.findall(r"jq '(.*?)' \|\n  kubectl", page, re.DOTALL)
    template = yaml.safe_load((ROOT / "k8s" / "base" / "cronjob.yaml").read_text("utf-8"))["spec"]["jobTemplate"]

    made = subprocess.run(["jq", program], input=json.dumps(template), capture_output=True, text=True, check=True)

    spec: dict[str, Any] = json.loads(made.stdout)["spec"]
    pod = spec["template"]["spec"]
    [container] = pod["containers"]
    assert spec["backoffLimit"] == 0
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    place = container["args"][container["args"].index("--to") + 1]
    assert place in {mount["mountPath"] for mount in container["volumeMounts"]}
    command = [sys.executable, "-m", "job", *container["args"], "--help"]
    assert subprocess.run(command, capture_output=True, check=False, cwd=ROOT).returncode == 0
