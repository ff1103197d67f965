"""The alerts, fired in a real Prometheus by real events of a real service. Only `for` is shortened."""

import pytest

from tests.monitoring.stack import Stack

pytestmark = pytest.mark.needs_tool("prometheus")


def test_failing_refused_and_stale_pairs_are_told_and_the_healthy_pair_is_not(stack: Stack) -> None:
    expected = {
        ("TruecopyBackupStale", "late"),
        ("TruecopyFilesFailing", "bad"),
        ("TruecopyFilesFailing", "late"),
        ("TruecopyNeverSucceeded", "bad"),
        ("TruecopyNeverSucceeded", "gone"),
        ("TruecopyOutputFailing", ""),
        ("TruecopyPairRefused", "gone"),
    }

    stack.wait_until("the alerts did not fire", lambda: stack.prometheus.firing() >= expected)

    assert stack.prometheus.firing() == expected


def test_an_edit_in_the_mirror_is_told(stack: Stack) -> None:
    (stack.site.folder / "mirror" / "good" / "1.txt").write_text("somebody was here\n")

    stack.wait_until("no drift was told", lambda: ("TruecopyDriftFound", "good") in stack.prometheus.firing())


def test_a_broken_edit_of_the_config_is_told_until_it_is_mended(stack: Stack) -> None:
    alert = ("TruecopyConfigBroken", "")

    stack.site.config.write_text('{"pairs": [')
    stack.wait_until("the broken config was not told", lambda: alert in stack.prometheus.firing())
    stack.site.write_config()
    stack.wait_until("the mended config is still told", lambda: alert not in stack.prometheus.firing())


def test_a_service_that_is_gone_is_told(stack: Stack) -> None:
    alert = ("TruecopyTargetAbsent", "")
    assert alert not in stack.prometheus.firing()

    stack.stop_service()

    stack.wait_until("the missing service was not told", lambda: alert in stack.prometheus.firing())
