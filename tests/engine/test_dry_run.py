"""A plan says what the next cycle then does, and does nothing itself."""

import os
import subprocess
from pathlib import Path

import pytest

from job.engine.dry_run import Planned
from job.errors import Refused
from job.events.pair import FileCopied
from tests.engine.workshop import Workshop

pytestmark = pytest.mark.one_process  # a plan is made by one process


def snapshot(folder: Path) -> bytes:
    return subprocess.run(["find", folder, "-printf", "%p %i %m %T@ %C@ %l\n"], capture_output=True, check=True).stdout


def changes(shop: Workshop) -> None:
    """Mirror a tree, then do a bit of everything to both sides."""
    for name in ("same", "edited", "mode", "touched", "sub/same", "sub/missing", "sub/replaced", "became-folder"):
        shop.write(name)
    for name in ("link", "relinked"):
        (shop.source / name).symlink_to("same")
    shop.cycle()
    shop.write("edited", "longer than before")
    shop.write("new-folder/new")
    (shop.source / "mode").chmod(0o600)
    os.utime(shop.source / "touched")
    (shop.source / "relinked").unlink()
    (shop.source / "relinked").symlink_to("elsewhere")
    os.mkfifo(shop.source / "pipe")
    shop.write("sub/.truecopy-tmp-mine")
    (shop.source / "became-folder").unlink()
    shop.write("became-folder/below")
    (shop.mirror / "sub/missing").unlink()
    (shop.mirror / "sub/other").write_text("another length")
    (shop.mirror / "sub/other").rename(shop.mirror / "sub/replaced")


def of(plan: list[Planned], action: str) -> set[bytes]:
    return {line.path for line in plan if line.action == action}


def test_what_is_planned_is_what_is_done(shop: Workshop) -> None:
    changes(shop)
    plan = shop.plan()

    told = shop.cycle()

    assert of(plan, "copy") | {b"relinked"} == set(told.copied) | {b"relinked"}
    assert of(plan, "compare_source") == {b"mode"}
    assert of(plan, "make_folder") == {b"new-folder", b"became-folder"}
    assert of(plan, "refuse_name") == set(told.failed)
    assert told.tally.copied + told.tally.updated + told.tally.failed == len(plan) - 2


def test_every_line_of_the_plan_has_the_reason_that_the_log_then_has(shop: Workshop) -> None:
    changes(shop)
    planned = {line.path: line.reason for line in shop.plan() if line.action == "copy"}

    done = {event.path: event.reason for event in shop.cycle().of(FileCopied)}

    assert planned.items() <= done.items()


def test_a_plan_changes_nothing(shop: Workshop) -> None:
    changes(shop)
    before = snapshot(shop.base)

    shop.plan()

    assert snapshot(shop.base) == before


def test_the_first_plan_makes_no_state(shop: Workshop) -> None:
    shop.write("sub/file")

    plan = shop.plan()

    assert [(line.action, line.path, line.reason) for line in plan] == [
        ("make_folder", b"sub", "new folder"),
        ("copy", b"sub/file", "new"),
    ]
    assert list(shop.mirror.iterdir()) == []


def test_after_a_cycle_there_is_nothing_to_plan(shop: Workshop) -> None:
    changes(shop)
    (shop.source / "sub/.truecopy-tmp-mine").unlink()
    shop.cycle()

    assert shop.plan() == []


def test_a_plan_is_refused_where_the_cycle_would_be(shop: Workshop) -> None:
    path = shop.write("file")
    shop.cycle()
    path.unlink()

    with pytest.raises(Refused):
        shop.plan()

    assert shop.cycle().result == "refused"


@pytest.mark.needs_root
def test_what_cannot_be_read_is_planned_as_a_failure(open_shop: Workshop) -> None:
    open_shop.write("locked/file")
    open_shop.write("halfway/file")
    (open_shop.source / "locked").chmod(0)
    (open_shop.source / "halfway").chmod(0o744)
    os.seteuid(65534)
    try:
        plan = open_shop.plan()
    finally:
        os.seteuid(0)

    assert of(plan, "fail") == {b"locked", b"halfway/file"}


def test_a_torn_index_is_planned_as_if_nothing_were_known(shop: Workshop) -> None:
    shop.write("file")
    shop.cycle()
    (shop.state / "index.sqlite3").write_bytes(b"\xff" * 5000)

    assert [(line.action, line.path) for line in shop.plan()] == [("compare_both", b"file")]
