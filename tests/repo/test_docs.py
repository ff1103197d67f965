"""The documents and the code say the same, and the repository keeps its shape."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from job.cli.main import truecopy
from job.errors import Exit

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    page
    for page in ROOT.rglob("*.md")
    if not {".venv", ".pytest_cache", "data"} & set(page.relative_to(ROOT).parts) and "site-packages" not in str(page)
]
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")
ROOMS = "|".join(folder.name for folder in (ROOT / "job").iterdir() if folder.is_dir())
NAMED = re.compile(rf"`((?:job|tests|k8s|{ROOMS})/[\w./-]+\.(?:py|json|toml|md))`")
ALLOWED_AT_THE_TOP = {
    ".ci", ".dockerignore", ".github", ".gitignore", "CHANGELOG.md", "CONTRIBUTING.md", "Dockerfile", "LICENSE",
    "Makefile", "README.md", "SECURITY.md", "config", "docker-compose.yml", "job", "k8s", "pyproject.toml",
    "requirements-bench.lock", "requirements-dev.lock", "requirements.lock", "tests",
}  # fmt: skip


def threats() -> list[list[str]]:
    """Give the rows of the threat model: who, may do what, is stopped by, tested in."""
    table = (ROOT / "SECURITY.md").read_text("utf-8").partition("<!-- threats")[2].partition("<!-- end of threats")[0]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| ")]
    return rows[1:]


def anchors(page: Path) -> set[str]:
    """Give the anchors of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


def tracked() -> list[str]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout that this user may read")
    return [name for name in listed.stdout.split("\0") if name]


def test_what_is_generated_is_up_to_date() -> None:
    done = subprocess.run([sys.executable, "tests/repo/generate.py", "--check"], cwd=ROOT, check=False)

    assert done.returncode == 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    broken = [target for target in LINK.findall(page.read_text("utf-8")) if not (page.parent / target).exists()]

    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_section_that_a_page_links_to_exists(page: Path) -> None:
    sections = re.findall(r"\]\((?!https?:)([^)#\s]*)#([^)\s]+)", page.read_text("utf-8"))

    assert [
        (name, anchor) for name, anchor in sections if anchor not in anchors(page.parent / name if name else page)
    ] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    named = NAMED.findall(page.read_text("utf-8"))

    missing = [name for name in named if not any((base / name).exists() for base in (ROOT, ROOT / "job", page.parent))]

    assert missing == []


@pytest.mark.parametrize("row", threats(), ids=lambda row: row[1][:50])
def test_every_threat_names_what_stops_it_and_tests_of_that(row: list[str]) -> None:
    who, does, stopped, tested = row
    held_by, tests = LINK.findall(stopped), LINK.findall(tested)

    assert all((who, does, held_by, tests))
    assert all((ROOT / name).is_file() for name in held_by + tests)
    assert all(name.startswith("tests/") for name in tests)
    for name in tests:
        assert re.search(r"^def test_|^Test\w+ = |^[.] .*lib.sh", (ROOT / name).read_text("utf-8"), re.MULTILINE), name


def test_the_table_of_threats_names_modules_by_their_place() -> None:
    named = re.findall(r"\[([\w./]+\.py)\]\(job/([^)]+)\)", "".join(row[2] for row in threats()))

    assert len(named) > 20
    assert [text for text, target in named if text != target] == []


def test_every_case_of_the_users_is_about_a_threat() -> None:
    cases = {f"tests/cases/security/{script.name}" for script in (ROOT / "tests/cases/security").glob("[0-9]*.sh")}
    named = {name for row in threats() for name in LINK.findall(row[3]) if name.startswith("tests/cases/security/")}

    assert len(cases) > 30
    assert named == cases


def test_every_command_is_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")

    missing = [name for name in truecopy.list_commands(truecopy.make_context("truecopy", [], resilient_parsing=True))
               if f"`truecopy {name}" not in readme]  # fmt: skip

    assert missing == []


def test_the_help_of_run_names_the_exit_codes() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "job", "run", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )

    told = {int(number) for number in re.findall(r"\b(\d+)\b", done.stdout.partition("Exit codes")[2])}
    assert told == {int(code) for code in Exit}


@pytest.mark.needs_tool("git")
def test_nothing_but_the_layout_lies_at_the_top() -> None:
    assert {name.split("/")[0] for name in tracked()} <= ALLOWED_AT_THE_TOP


def test_the_map_names_every_room_and_is_short() -> None:
    page = (ROOT / "job/README.md").read_text("utf-8")
    rooms = [folder.name for folder in (ROOT / "job").iterdir() if folder.is_dir() and folder.name != "__pycache__"]

    assert [room for room in rooms if f"| `{room}/` |" not in page] == []
    assert len(page.splitlines()) <= 80


def test_every_module_that_the_map_names_exists() -> None:
    table = (ROOT / "job/README.md").read_text("utf-8").partition("| room |")[2].partition("## ")[0]
    rows = re.findall(r"^\| `([\w/]+)/` \| (.*) \|$", table, re.MULTILINE)
    missing = [
        f"{room}/{module}"
        for room, holds in rows
        for module in re.findall(r"`(\w+\.py)`", holds)
        if not (ROOT / "job" / room / module).is_file()
    ]

    assert len(rows) > 10
    assert missing == []
