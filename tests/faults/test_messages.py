"""What is said of failures: their place and reason in words, and the right that is missing."""

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.faults.conftest import unprivileged  # noqa: F401  # a fixture
from tests.faults.rig import Rig

NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")


@pytest.fixture
def open_base() -> Iterator[Path]:
    """Give a folder in which another user may work."""
    with TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        yield Path(folder)


def test_an_unreadable_file_is_told_in_words(tmp_path: Path, unprivileged: tuple[str, ...]) -> None:  # noqa: F811
    rig = Rig(tmp_path)
    (rig.source / "closed").write_text("content")
    (rig.source / "closed").chmod(0)

    failed = rig.once(prefix=unprivileged).the("file_failed")

    assert failed["error"] == "Permission denied (the user that runs Truecopy lacks the right to it)"
    assert failed["message"] == f"Failed closed: {failed['error']}"


def test_a_root_that_cannot_be_listed_has_a_name(tmp_path: Path, unprivileged: tuple[str, ...]) -> None:  # noqa: F811
    rig = Rig(tmp_path)
    (rig.source / "folder").mkdir()
    (rig.source / "folder").chmod(0)

    failed = rig.once(prefix=unprivileged).the("file_failed")

    assert failed["message"].startswith("Failed folder: the folder cannot be read: Permission denied")


@pytest.mark.needs_root
def test_an_owner_that_a_user_may_not_give_is_no_fault_of_the_mirror(open_base: Path) -> None:
    rig = Rig(open_base, {"log_file": None, "error_log_file": None, "metrics": {"enabled": False}})
    (rig.source / "file").write_text("content")
    rig.mirror.chmod(0o777)

    told = {line["what"]: line for line in rig.once(prefix=NOBODY).of("metadata_not_kept")}

    needed = "this needs root (CAP_CHOWN), and Truecopy runs as user 65534 without it"
    assert told["owner"]["message"] == f"Not kept in the mirror: owner, first met at file: {needed}"
    # The root of the mirror, which belongs to root here.
    assert told["mode"]["message"].startswith(
        "Not kept in the mirror: mode, first met at .: this needs root (CAP_FOWNER)"
    )


@pytest.mark.needs_root
@pytest.mark.parametrize("holds_something", [False, True])
def test_an_empty_folder_of_root_may_be_a_mount_point_without_its_disk(
    open_base: Path, *, holds_something: bool
) -> None:
    rig = Rig(open_base, {"log_file": None, "error_log_file": None, "metrics": {"enabled": False}})
    (rig.source / "file").write_text("content")
    if holds_something:
        (rig.mirror / "file").write_text("content")

    refused = rig.once(prefix=NOBODY).the("pair_refused")

    assert refused["reason"] == "mirror_not_writable"
    assert refused["hint"].startswith("Is the disk mounted?") is not holds_something
    assert f"chown 65534 {rig.mirror}" in refused["hint"]
