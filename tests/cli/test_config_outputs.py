"""`truecopy config check` of the files that are written to: none of them may be one of ours, or one another."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.faults.rig import Done, Rig

pytestmark = pytest.mark.one_process
PUSH = {"TRUECOPY_METRICS_PUSHGATEWAY": "http://127.0.0.1:1", "TRUECOPY_METRICS_PUSHGATEWAY_USERNAME": "me"}


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    rig = Rig(tmp_path)
    (rig.source / "file").write_text("content")
    return rig


def configured(rig: Rig, key: str, path: Path, **options: Any) -> None:
    if key == "textfile":
        rig.configure(metrics={"enabled": False, "textfile": str(path)}, **options)
    else:
        rig.configure(**{key: str(path)}, **options)


def faults(done: Done) -> str:
    assert done.code == 2, done
    return done.stderr


@pytest.mark.parametrize("key", ["log_file", "error_log_file"])
@pytest.mark.parametrize("name", ["config.json", "link", "link-to-folder/config.json"])
def test_a_log_that_is_the_configuration_is_refused_and_nothing_is_written(rig: Rig, key: str, name: str) -> None:
    (rig.base / "link").symlink_to(rig.config)
    (rig.base / "link-to-folder").symlink_to(rig.base)
    refused_as_the_configuration(rig, key, rig.base / name)


@pytest.mark.needs_root
def test_a_log_that_is_the_configuration_by_a_mount_is_refused_and_nothing_is_written(rig: Rig) -> None:
    bound = rig.base / "bound.log"
    bound.touch()
    configured(rig, "log_file", bound)
    subprocess.run(["mount", "--bind", rig.config, bound], check=True)
    try:
        refused_as_the_configuration(rig, "log_file", bound)
    finally:
        subprocess.run(["umount", bound], check=True)


def refused_as_the_configuration(rig: Rig, key: str, path: Path) -> None:
    if path.name != "bound.log":
        configured(rig, key, path)
    before = rig.config.read_bytes()

    for done in (rig.run("config", "check"), rig.once()):
        assert f"{key} = {json.dumps(str(path))}: it is the configuration, which would be overwritten" in faults(done)
    assert rig.config.read_bytes() == before
    assert list(rig.mirror.iterdir()) == []


def test_a_log_that_is_the_file_of_a_secret_is_refused(rig: Rig) -> None:
    secret, variable = rig.base / "secret", "TRUECOPY_METRICS_PUSHGATEWAY_PASSWORD_FILE"
    secret.write_text("hunter2\n")
    secret.chmod(0o600)
    configured(rig, "log_file", secret)
    prefix = ["env", *(f"{name}={text}" for name, text in PUSH.items()), f"{variable}={secret}"]

    check, run = rig.run("config", "check", prefix=prefix), rig.once(prefix=prefix)

    for done in (check, run):
        assert f"log_file = {json.dumps(str(secret))}: it is the file of {variable}" in faults(done)
    assert secret.read_text() == "hunter2\n"


@pytest.mark.parametrize("key", ["log_file", "error_log_file", "textfile"])
@pytest.mark.parametrize("name", ["x.prom", "source/index.sqlite3", ".pairs/x.prom"])
def test_an_output_in_state_dir_is_refused(rig: Rig, key: str, name: str) -> None:
    if key == "textfile":
        name = "x.prom"
    state = rig.base / "state"
    rig.configure(state_dir=str(state))
    assert rig.once().code == 0
    index = (state / "source/index.sqlite3").read_bytes()
    configured(rig, key, state / name, state_dir=str(state))

    check, run = rig.run("config", "check"), rig.once()

    for done in (check, run):
        assert f"lies in state_dir, {state}, which holds nothing but Truecopy's own files" in faults(done)
    assert (state / "source/index.sqlite3").read_bytes() == index


@pytest.mark.parametrize("key", ["log_file", "error_log_file"])
def test_a_log_that_is_the_textfile_is_refused_with_both_keys(rig: Rig, key: str) -> None:
    configured(rig, key, rig.textfile)

    check, run = rig.run("config", "check"), rig.once()

    for done in (check, run):
        assert f"{key} = {json.dumps(str(rig.textfile))}: it is the file of metrics.textfile" in faults(done)


def test_a_log_that_is_called_like_an_old_file_of_the_other_is_refused(rig: Rig) -> None:
    rig.configure(error_log_file=f"{rig.log}.2", log_rotate={"size": "1MiB", "count": 3})

    assert "error_log_file" in faults(rig.run("config", "check"))
    rig.configure(error_log_file=f"{rig.log}.4", log_rotate={"size": "1MiB", "count": 3})
    assert rig.run("config", "check").code == 0


def test_a_service_keeps_its_configuration_when_an_edit_would_write_into_it(rig: Rig) -> None:
    with rig.started("run") as service:
        service.wait_for("cycle_finished")
        configured(rig, "log_file", rig.config)
        before = rig.config.read_bytes()

        line = service.wait_for("config_rejected")

    assert "it is the configuration" in line["faults"][0]
    assert rig.config.read_bytes() == before


def test_a_textfile_that_cannot_be_written_is_named_by_check(rig: Rig) -> None:
    (rig.base / "folder.prom").mkdir()
    for path, why in (
        (rig.base / "folder.prom", "is a folder; write the path of a file"),
        (rig.base / "none/such/x.prom", f"{rig.base}/none cannot be opened: No such file or directory; make"),
        (rig.base / f"{'a' * 256}.prom", "no file can have this path: File name too long"),
    ):
        configured(rig, "textfile", path)
        assert f"metrics.textfile = {json.dumps(str(path))}: {why}" in faults(rig.run("config", "check"))


@pytest.mark.needs_root
def test_a_textfile_behind_another_users_link_is_named_by_check(rig: Rig) -> None:
    link = rig.base / "link"
    link.symlink_to(rig.base)
    os.lchown(link, 4001, -1)
    configured(rig, "textfile", link / "x.prom")

    assert f"{link} is a link of user 4001" in faults(rig.run("config", "check"))


@pytest.mark.parametrize("name", ["source/state", "mirror", "mirror/state"])
def test_a_state_dir_in_a_source_or_mirror_is_named_by_check(rig: Rig, name: str) -> None:
    rig.configure(state_dir=str(rig.base / name))

    told = faults(rig.run("config", "check"))

    assert f"state_dir = {json.dumps(str(rig.base / name))}: lies in the {name.partition('/')[0]}" in told


def test_a_log_with_too_long_a_name_is_named_by_check(rig: Rig) -> None:
    configured(rig, "log_file", rig.base / ("a" * 256))

    assert "it has a longer name than its file system can hold" in faults(rig.run("config", "check"))


def test_wrong_values_and_outputs_that_cannot_be_written_are_told_in_one_go(rig: Rig) -> None:
    (rig.base / "link.log").symlink_to("nowhere")
    (rig.base / "folder.prom").mkdir()
    rig.configure(
        log_file=str(rig.base / "link.log"),
        sleep_time="3 parsecs",
        metrics={"enabled": False, "textfile": str(rig.base / "folder.prom")},
    )

    told = faults(rig.run("config", "check"))

    assert "cannot be used: 3 faults" in told
    for part in ("unknown unit 'parsecs'", "it is a link; a log is written to a regular file", "is a folder; write"):
        assert part in told


def test_a_secret_in_the_place_of_an_output_is_not_shown_with_other_faults(rig: Rig) -> None:
    secret = "hunter2-hunter2-hunter2"
    rig.configure(
        log_file=f"/none/such/{secret}/x",
        sleep_time="3 parsecs",
        metrics={"pushgateway": "http://127.0.0.1:1", "pushgateway_username": "me", "pushgateway_password": secret},
    )

    assert secret not in faults(rig.run("config", "check"))
