"""`truecopy explain`: rule, copy, versions, failure and next step of one path."""

import json
import time
from pathlib import Path

import pytest

from tests.cli.test_restore import OLD, keep
from tests.faults.rig import Rig


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    rig = Rig(tmp_path, {"exclude": ["*.tmp", "!keep.tmp", "cache/"]})
    (rig.source / "folder" / "cache").mkdir(parents=True)
    (rig.source / "folder" / "file").write_text("content")
    (rig.source / "folder" / "a.tmp").touch()
    (rig.source / "folder" / "keep.tmp").touch()
    (rig.source / "folder" / "cache" / "file").touch()
    time.sleep(2.1)  # younger files are compared again by the next cycle
    rig.once()
    return rig


def facts(rig: Rig, path: str, code: int = 0) -> dict[str, str]:
    done = rig.run("explain", path)
    assert done.code == code, done
    return dict(line.split(maxsplit=1) for line in done.stdout.splitlines())


def test_an_unchanged_file_is_explained(rig: Rig) -> None:
    keep(rig, OLD, "folder/file", "of October")

    found = facts(rig, "folder/file")

    assert list(found) == ["path", "source", "rule", "mirror", "verified", "versions", "failure", "next"]
    assert found["path"] == "folder/file, of source"
    assert found["source"].startswith("a file, 7 B, last changed ")
    assert found["rule"] == "included, as no pattern matches it"
    assert "copied " in found["mirror"]
    assert "sha256:" in found["mirror"]
    assert found["verified"].startswith("when it was copied (")
    assert found["versions"] == "1 version, the last until Sunday 2026-11-01 10:00:00 +0000"
    assert found["failure"] == "none in the last cycle"
    assert found["next"] == "nothing: it is unchanged"


@pytest.mark.parametrize(
    ("path", "rule"),
    [
        ("folder/a.tmp", "excluded by the pattern '*.tmp'"),
        ("folder/keep.tmp", "included by the pattern '!keep.tmp'"),
        ("folder/cache/file", "excluded by the pattern 'cache/', which matches folder/cache"),
        ("folder/cache", "excluded by the pattern 'cache/'"),
    ],
)
def test_the_pattern_that_decides_is_named(rig: Rig, path: str, rule: str) -> None:
    found = facts(rig, path)

    assert found["rule"] == rule
    assert found["next"] == ("nothing: it is excluded" if rule.startswith("excluded") else "nothing: it is unchanged")


def test_what_the_next_cycle_would_do_is_told_of_files_and_folders(rig: Rig) -> None:
    (rig.source / "folder" / "file").write_text("changed content")
    (rig.source / "folder" / "new").write_text("new")
    (rig.mirror / "left").write_text("it left the source")

    assert facts(rig, "folder/new")["next"].startswith("copy (new")
    assert facts(rig, "folder/file")["next"].startswith("copy (")
    assert "2 entries below it" in facts(rig, "folder")["next"]
    assert facts(rig, "left")["next"] == "nothing: what is not in the source stays as it is in the mirror"
    assert facts(rig, "no/such")["source"] == "does not have it"


def test_the_failure_of_the_last_cycle_is_told(rig: Rig) -> None:
    (rig.source / ".truecopy-tmp-reserved").write_text("a name of ours")
    rig.once()

    found = facts(rig, ".truecopy-tmp-reserved")

    assert found["rule"] == "its name is reserved for Truecopy"
    assert found["failure"].startswith("reserved_name: ")


def test_a_pair_that_would_be_refused_is_explained_too(rig: Rig) -> None:
    rig.source.rename(rig.base / "elsewhere")

    found = facts(rig, "folder/file", code=4)

    assert found["source"] == "does not have it" or found["source"].startswith("unknown")
    assert "copied " in found["mirror"]
    assert found["next"].startswith("refused: the source ")


def test_programs_get_a_json_object_a_path(rig: Rig) -> None:
    done = rig.run("explain", "--json", "folder/file", "folder/a.tmp")
    file, excluded = map(json.loads, done.stdout.splitlines())

    assert (file["path"], file["included"], file["versions"], file["failure"]) == ("folder/file", True, 0, None)
    assert (excluded["included"], excluded["pattern"], excluded["mirror"]) == (False, "*.tmp", None)


def test_the_root_is_a_usage_error(rig: Rig) -> None:
    done = rig.run("explain", ".")

    assert done.code == 2
    assert "Write a path below the source" in done.stderr
