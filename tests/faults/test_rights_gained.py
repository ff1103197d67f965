"""A mirror that was made with fewer rights is mended once they are given."""

import os

import pytest

from tests.faults.rig import UNPRIVILEGED, Rig

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_tool("setpriv")]
ALICE, STAFF = 64_001, 64_008


def test_owners_and_rights_of_groups_come_with_the_capability(rig: Rig) -> None:
    rig.configure(audit_interval="1h")
    for name, mode in (("file", 0o664), ("private", 0o640)):
        (rig.source / name).write_text(name)
        os.chown(rig.source / name, 0 if name == "private" else ALICE, STAFF)
        (rig.source / name).chmod(mode)
    os.chown(rig.source, ALICE, STAFF)
    before = rig.once(prefix=UNPRIVILEGED)
    assert {line["what"] for line in before.of("metadata_not_kept")} == {"owner", "mode"}
    assert before.code in {0, 3}

    after = rig.once()

    assert after.code == 0
    assert not after.of("metadata_not_kept")
    assert rig.mirrored == rig.wanted
    assert rig.once().counts[:2] == (0, 0)


def test_a_plan_by_somebody_with_more_rights_shows_what_the_service_would_do(rig: Rig) -> None:
    (rig.source / "file").write_text("content")
    os.chown(rig.source / "file", ALICE, STAFF)
    rig.configure(audit_interval="1h")
    assert rig.once(prefix=UNPRIVILEGED).code == 0

    assert rig.run("plan", "--json").stdout == rig.run("plan", "--json", prefix=UNPRIVILEGED).stdout


def test_a_mirror_whose_rights_did_not_change_is_not_tried_out_again(rig: Rig) -> None:
    rig.once()
    assert not rig.once().of("mirror_probed")
    assert rig.once(prefix=UNPRIVILEGED).of("mirror_probed")
