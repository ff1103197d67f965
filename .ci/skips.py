"""A pytest plugin: a skipped test that `.ci/allowed-skips.txt` does not name fails the run.

Loaded by `.ci/run` only, where everything a test may ask for is installed, so a skip means that a check was lost.
"""

# ruff: noqa: INP001 -- found through PYTHONPATH, not a package
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

LOST_CHECK = 100
ALLOWED = Path(__file__).with_name("allowed-skips.txt")


def allowed_patterns(text: str) -> Iterator[re.Pattern[str]]:
    """Read `pattern  # reason` lines; `*` stands for anything. A line without a reason is an error."""
    for line in text.splitlines():
        pattern, _, reason = (part.strip() for part in line.partition("#"))
        if pattern and not reason:
            msg = f"{ALLOWED.name}: {pattern} has no reason"
            raise pytest.UsageError(msg)
        if pattern:
            yield re.compile(".*".join(re.escape(part) for part in pattern.split("*")))


class SkipGuard:
    """Remembers what was skipped, and turns what nobody allowed into a failure of the run."""

    def __init__(self, allowed: tuple[re.Pattern[str], ...]) -> None:
        self.allowed = allowed
        self.unlisted: list[str] = []

    def _note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
            if not any(pattern.fullmatch(report.nodeid) for pattern in self.allowed):
                self.unlisted.append(f"{report.nodeid}: {reason}")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """See a test that was skipped."""
        self._note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """See a module that was skipped as a whole."""
        self._note(report)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Name what was skipped."""
        if self.unlisted:
            terminalreporter.section("skipped, though .ci/allowed-skips.txt does not name it", red=True)
            for line in self.unlisted:
                terminalreporter.line(line)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Fail a run that lost a check, with an exit code that no failed test has."""
        if self.unlisted:
            session.exitstatus = LOST_CHECK


def pytest_configure(config: pytest.Config) -> None:
    """Start watching."""
    guard = SkipGuard(tuple(allowed_patterns(ALLOWED.read_text("utf-8"))))
    config.pluginmanager.register(guard, "truecopy-skip-guard")
