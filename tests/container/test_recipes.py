"""The recipes at the end of the compose file, as a reader would take them over."""

import json
import os
import re
import shlex
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from job.errors import Exit
from tests.container.engine import ROOT, Project, checked, run

pytestmark = pytest.mark.needs_docker

TEXT = (ROOT / "docker-compose.yml").read_text("utf-8")
SEVERAL, OTHERS = (
    re.sub("^# {3}", "", block, flags=re.MULTILINE) for block in re.findall(r"(#   services:\n(?:# {5,}.*\n)+)", TEXT)
)
"""The override files, uncommented."""
[PAIRS] = re.findall(r'#   ("pairs": \[\n(?:#.*\n)+?#   \]),\n', TEXT)


CAPABILITY = "security.capability"


def owned(path: Path, owner: int, mode: int) -> None:
    os.chown(path, owner, owner + 1, follow_symlinks=False)
    path.chmod(mode)


def looks(folder: Path) -> dict[str, tuple[int, int, str, int]]:
    """Give owner, group, mode and whole seconds of the time of everything in a folder but Truecopy's own."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if ".truecopy" in path.relative_to(folder).parts:
            continue
        status = path.lstat()
        owners = status.st_uid, status.st_gid, stat.filemode(status.st_mode), int(status.st_mtime)
        found[str(path.relative_to(folder))] = owners
    return found


@pytest.fixture
def project(new_project: Callable[[], Project]) -> Project:
    return new_project()


@pytest.fixture
def families(project: Project) -> Path:
    """A source with files of three users, which only their owners may read."""
    source = project.folder / "data" / "source"
    for number, name in enumerate(("alice", "bob", "carol")):
        (source / name / "private").mkdir(parents=True)
        for folder in (source / name, source / name / "private"):
            (folder / "secret").write_text(name, "utf-8")
            os.utime(folder / "secret", (1_600_000_000 + number, 1_600_000_000 + number))
        (source / name / "link").symlink_to("secret")
        os.link(source / name / "secret", source / name / "hard link")
        (source / name / "closed").write_text(name, "utf-8")
        for path in (source / name).rglob("*"):
            os.chown(path, 3000 + number, 4000 + number, follow_symlinks=False)
        owned(source / name, 3000 + number, 0o700)
        owned(source / name / "private", 3000 + number, 0o750)
        owned(source / name / "closed", 3000 + number, 0o000)
        (source / name / "secret").chmod(0o600)
    return source


def test_several_pairs_are_backed_up_from_and_to_folders_of_their_own(project: Project, tmp_path: Path) -> None:
    for name in ("photos", "disk2"):
        (tmp_path / name).mkdir()
        os.chown(tmp_path / name, int(project.env["PUID"]), int(project.env["PGID"]))
    (tmp_path / "photos" / "photo").write_text("1", "utf-8")
    (project.folder / "data" / "source" / "document").write_text("2", "utf-8")
    text = SEVERAL.replace("/srv/photos", f"{tmp_path}/photos").replace("/mnt/disk2/photos", f"{tmp_path}/disk2")
    project.override.write_text(text, "utf-8")
    path = project.folder / "config" / "backup_config.json"
    config = json.loads(path.read_text("utf-8"))
    del config["source_dirs"], config["dest_dirs"]
    path.write_text(json.dumps(config | json.loads(f"{{{re.sub('^#', '', PAIRS, flags=re.MULTILINE)}}}")), "utf-8")

    finished = project.once()

    assert finished.returncode == Exit.OK, finished.stdout + finished.stderr
    assert (tmp_path / "disk2" / "photo").read_text("utf-8") == "1"
    assert (project.folder / "data" / "mirror" / "document").read_text("utf-8") == "2"


def test_files_of_other_users_are_mirrored_with_owners_and_modes_and_go_on_being_so(
    project: Project, families: Path
) -> None:
    project.override.write_text(OTHERS, "utf-8")

    first = project.once()
    (families / "bob" / "private" / "later").write_text("new", "utf-8")
    owned(families / "bob" / "private" / "later", 3001, 0o600)
    (families / "bob" / "secret").write_text("changed", "utf-8")
    second = project.once()

    for finished in (first, second):
        assert finished.returncode == Exit.OK, finished.stdout + finished.stderr
    mirror = project.folder / "data" / "mirror"
    assert looks(mirror) == looks(families)
    assert (mirror / "bob" / "secret").read_text("utf-8") == "changed"
    assert (mirror / "carol" / "closed").read_text("utf-8") == "carol"


def test_root_follows_the_configuration_of_the_user_who_owns_the_compose_file(project: Project, families: Path) -> None:
    project.override.write_text(OTHERS, "utf-8")
    owner = int(project.env["PUID"])
    for path in (project.folder / "config", *(project.folder / "config").rglob("*")):
        os.chown(path, owner, owner, follow_symlinks=False)

    followed = project.once()
    os.chown(project.folder / "config" / "backup_config.json", owner + 1, owner + 1)
    refused = project.once()

    assert followed.returncode == Exit.OK, followed.stdout + followed.stderr
    assert refused.returncode == Exit.USAGE
    assert f"TRUECOPY_CONFIG_OWNER={owner + 1}" in refused.stdout + refused.stderr
    assert looks(project.folder / "data" / "mirror") == looks(families)


def test_the_recipe_has_exactly_the_capabilities_that_it_explains(project: Project) -> None:
    project.override.write_text(OTHERS, "utf-8")

    config: dict[str, Any] = json.loads(checked(project.compose("config", "--format", "json")))

    service = config["services"]["truecopy"]
    assert service["cap_add"] == ["DAC_READ_SEARCH", "DAC_OVERRIDE", "CHOWN", "FOWNER"]
    assert service["cap_drop"] == ["ALL"]
    assert (service["user"], service["read_only"]) == ("0:0", True)


@pytest.mark.parametrize("capability", ["DAC_OVERRIDE", "CHOWN", "FOWNER"])
def test_without_one_of_them_something_is_missing(project: Project, families: Path, capability: str) -> None:
    project.override.write_text(OTHERS, "utf-8")
    assert project.once().returncode == Exit.OK
    project.override.write_text(re.sub(rf", {capability}\b", "", OTHERS), "utf-8")
    for name, owner in (("alice", 3000), ("bob", 3001)):
        (families / name / "later").write_text("new", "utf-8")
        owned(families / name / "later", owner, 0o640)
        os.utime(families / name / "later", (1_500_000_000, 1_500_000_000))
        (families / name / "private").chmod(0o711)

    project.once()

    assert looks(project.folder / "data" / "mirror") != looks(families)


@pytest.fixture
def special(project: Project, families: Path) -> Path:
    """The same source with a setgid folder, a device and a file with a capability, all asked for."""
    (families / "shared").mkdir()
    os.chown(families / "shared", 3000, 4000)
    (families / "shared").chmod(0o2770)
    os.mknod(families / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    (families / "tool").write_text("x", "utf-8")
    os.setxattr(families / "tool", CAPABILITY, bytes.fromhex("0100000200200000000000000000000000000000"))
    config = project.folder / "config" / "backup_config.json"
    asked = {"specials": "recreate", "keep_security": True}
    config.write_text(json.dumps(json.loads(config.read_text("utf-8")) | asked), "utf-8")
    return families


def test_setgid_folders_devices_and_file_capabilities_are_not_kept_with_the_four(
    project: Project, special: Path
) -> None:
    project.override.write_text(OTHERS, "utf-8")

    assert project.once().returncode == Exit.OK

    mirror = project.folder / "data" / "mirror"
    found = looks(mirror)
    assert "null" not in found
    assert found["shared"][2] == "drwxrwx---"
    assert os.listxattr(mirror / "tool") == []
    assert looks(special).items() - found.items() == {(name, looks(special)[name]) for name in ("null", "shared")}


def test_they_are_kept_with_the_three_more_that_the_recipe_names(project: Project, special: Path) -> None:
    more = re.findall(r"\(add (\w+)\)", TEXT)
    project.override.write_text(OTHERS.replace("FOWNER", ", ".join(["FOWNER", *more])), "utf-8")

    assert project.once().returncode == Exit.OK

    mirror = project.folder / "data" / "mirror"
    assert more == ["FSETID", "MKNOD", "SETFCAP"]
    assert looks(mirror) == looks(special)
    assert os.getxattr(mirror / "tool", CAPABILITY) == os.getxattr(special / "tool", CAPABILITY)


def test_a_backup_that_began_as_another_user_goes_on_after_the_command_of_the_recipe(
    project: Project, families: Path
) -> None:
    (families / "mine").write_text("1", "utf-8")
    assert project.once().returncode == Exit.PARTIAL
    project.override.write_text(OTHERS, "utf-8")
    [command] = re.findall(r"docker compose (run .* -c \\\n#.*)\n", TEXT)

    before = project.once().returncode
    checked(project.compose(*shlex.split(command.replace("\\\n#", ""))))
    after = project.once()

    assert before == Exit.REFUSED
    assert after.returncode == Exit.OK, after.stdout + after.stderr
    assert looks(project.folder / "data" / "mirror") == looks(families)


@pytest.fixture
def disk(project: Project, tmp_path: Path) -> Path:
    """A mount point, and below it the folder that the mirror is in while the disk is mounted."""
    (tmp_path / "content" / "mirror").mkdir(parents=True)
    os.chown(tmp_path / "content" / "mirror", int(project.env["PUID"]), int(project.env["PGID"]))
    (tmp_path / "disk").mkdir()
    project.env["MIRROR_DIR"] = str(tmp_path / "disk" / "mirror")
    (project.folder / "data" / "source" / "first").write_text("1", "utf-8")
    return tmp_path / "disk"


def test_a_disk_that_is_not_mounted_stops_the_start_until_it_is(project: Project, disk: Path) -> None:
    without = project.compose("up", "--detach", "--no-build", "truecopy")
    there = list(disk.iterdir())
    checked(run("mount", "--bind", disk.with_name("content"), disk))
    try:
        project.up()
        status = checked(project.compose("exec", "-T", "truecopy", "truecopy", "status", "--json"))
        checked(project.compose("down", "--timeout", "5"))
    finally:
        checked(run("umount", disk))

    assert without.returncode != 0
    assert str(disk / "mirror") in without.stderr
    assert there == []
    assert json.loads(status)
    assert (disk.with_name("content") / "mirror" / "first").read_text("utf-8") == "1"


def test_a_running_container_sees_a_disk_that_is_mounted_later_after_a_restart(project: Project, disk: Path) -> None:
    project.env["MIRROR_DIR"] = str(disk)
    project.up()
    listing = ("exec", "-T", "truecopy", "ls", "data/mirror")
    checked(run("mount", "--bind", disk.with_name("content"), disk))
    try:
        before = checked(project.compose(*listing)).split()
        checked(project.compose("restart", "--timeout", "5", "truecopy"))
        after = checked(project.compose(*listing)).split()
        checked(project.compose("down", "--timeout", "5"))
    finally:
        checked(run("umount", disk))

    assert "mirror" not in before
    assert "mirror" in after


def test_the_restore_of_the_readme_brings_files_back_beside_the_running_service(project: Project) -> None:
    page = (ROOT / "README.md").read_text("utf-8").partition("\n## Restore\n")[2]
    block = re.findall(r"^```console\n(.*?)^```", page, re.DOTALL | re.MULTILINE)[2]
    made, *lines = [shlex.split(line.removeprefix("$ ")) for line in block.splitlines()]
    documents = project.folder / "data" / "source" / "documents"
    documents.mkdir()
    (documents / "index.txt").write_text("first", "utf-8")
    assert project.once().returncode == 0
    (documents / "index.txt").write_text("second", "utf-8")
    assert project.once().returncode == 0
    (documents / "index.txt").unlink()
    project.up()

    assert made == ["mkdir", "-p", "data/restored"]
    (project.folder / "data" / "restored").mkdir()
    os.chown(project.folder / "data" / "restored", int(project.env["PUID"]), int(project.env["PGID"]))
    done = []
    for line in lines:
        assert line[:2] == ["docker", "compose"]
        arguments = [argument.replace("$PWD", str(project.folder)) for argument in line[2:]]
        done.append(project.compose(*arguments))

    assert [each.returncode for each in done] == [0, 0], done
    assert "the source got a newer one" in done[0].stdout
    assert (project.folder / "data" / "restored" / "documents" / "index.txt").read_text("utf-8") == "second"
    log = (project.folder / "data" / "logs" / "backup.log").read_text("utf-8").splitlines()
    restored = [json.loads(line) for line in log if '"file_restored"' in line]
    assert [each["path"] for each in restored] == ["documents/index.txt"]
    assert project.container()["State"]["Running"]
