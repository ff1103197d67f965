"""What a refusal tells to do is a step for that refusal, and its commands can be pasted."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.faults.rig import Rig

pytestmark = pytest.mark.one_process
STRANGER = 64003


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    rig = Rig(tmp_path)
    (rig.source / "file").write_text("content")
    return rig


@pytest.mark.parametrize("with_state_dir", [False, True])
@pytest.mark.parametrize("kind", ["folder", "link"])
@pytest.mark.parametrize("name", ["lock", "identity.json"])
def test_what_stands_in_the_place_of_a_file_of_ours_is_to_be_removed(
    rig: Rig, name: str, kind: str, *, with_state_dir: bool
) -> None:
    rig.configure(**({"state_dir": str(rig.base / "state")} if with_state_dir else {}))
    assert rig.once().code == 0
    place = rig.state / name
    place.unlink()
    place.mkdir() if kind == "folder" else place.symlink_to("elsewhere")

    refused = rig.once()

    line = refused.the("pair_refused")
    assert refused.code == 4
    assert f"a {kind} of user {os.geteuid()} has the name of {'the lock' if name == 'lock' else name}" in line["error"]
    assert line["hint"] == f"Remove what is named from {rig.state}; Truecopy makes it anew."
    place.rmdir() if kind == "folder" else place.unlink()
    assert rig.once().code == 0


def test_an_empty_path_of_the_configuration_is_called_empty(rig: Rig) -> None:
    done = rig.run("config", "check", "--config", "")

    assert done.code == 2
    assert "error: the path of the configuration file is empty" in done.stderr


def test_an_odd_name_of_a_pair_is_shown_as_everywhere(rig: Rig) -> None:
    done = rig.run("plan", "--pair", os.fsdecode(b"\xff\n"))

    assert done.code == 2
    assert "There is no pair '\\xff\\n'. The pairs are: source." in " ".join(done.stderr.split())


@pytest.mark.needs_root
@pytest.mark.parametrize("owner", ["ann", "-1", "4001 "])
def test_an_owner_of_the_configuration_that_is_no_number_is_told_where_it_would_matter(rig: Rig, owner: str) -> None:
    os.chown(rig.config, STRANGER, STRANGER)

    done = rig.run("config", "check", prefix=["env", f"TRUECOPY_CONFIG_OWNER={owner}"])

    assert done.code == 2
    assert f"TRUECOPY_CONFIG_OWNER is '{owner}', which is not the number of a user." in done.stderr


@pytest.mark.needs_root
@pytest.mark.parametrize("name", [b"a b'c", b"n\xff\n", "ä€\x7f'\\$x".encode()])
def test_the_command_that_mends_a_path_of_any_bytes_can_be_pasted(rig: Rig, name: bytes) -> None:
    folder = rig.base / os.fsdecode(name)
    folder.mkdir()
    rig.config = rig.config.rename(folder / "config.json")
    rig.config.chmod(0o666)
    told = rig.run("config", "check").stderr
    (command,) = re.findall(r"run `(.*)`$", told, re.MULTILINE)

    subprocess.run(["bash", "-c", command], check=True)

    assert rig.config.stat().st_mode & 0o777 == 0o664
    os.chown(rig.config, 0, 0)
    assert rig.run("config", "check").code == 0
