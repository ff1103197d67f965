"""What a review of the engine found, on real processes and file systems."""

import os
import resource
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.faults.rig import Rig, temps_in, until
from tests.faults.tampering import injected, mounted
from tests.faults.trees import tree_of

limited = pytest.mark.one_process
"""A limit of the rate is kept by one process."""
SLOW = 100_000
"""Bytes that take a second at this rate limit."""


def at_work(folder: Path) -> None:
    until(lambda: temps_in(folder))


@limited
def test_mirror_files_touched_during_a_slow_copy_beside_them_are_healed_by_the_next_cycle(rig: Rig) -> None:
    (rig.source / "sub").mkdir()
    for name in ("removed", "rewritten"):
        (rig.source / "sub" / name).write_text(name)
    (rig.source / "sub" / "slow").write_bytes(bytes(SLOW * 3))
    rig.configure(exclude=["slow"])
    rig.once()
    time.sleep(2.1)  # what is younger would be looked at again in any case
    rig.once()
    rig.configure(rate_limit=SLOW)
    with rig.started("run", "--once") as running:
        at_work(rig.mirror / "sub")
        (rig.mirror / "sub" / "removed").unlink()
        (rig.mirror / "sub" / "rewritten").write_text("by somebody else")
        running.process.wait(60)
    rig.configure()

    done = rig.once()

    assert done.drift == {"sub/removed": "missing", "sub/rewritten": "content"}
    assert rig.mirrored == rig.wanted


@pytest.mark.needs_tool("strace")
def test_a_file_stays_under_its_name_while_the_folder_for_it_cannot_be_made(rig: Rig) -> None:
    rig.configure(state_dir=str(rig.base / "state"))
    for name in ("a", "thing"):
        (rig.source / name).write_text(f"old {name}")
    rig.once()
    (rig.source / "thing").unlink()
    (rig.source / "thing" / "deeper").mkdir(parents=True)
    (rig.source / "thing" / "deeper" / "file").write_text("below")
    (rig.source / "a").write_text("newer a")

    done = rig.once(prefix=injected("mkdirat,mkdir", "error=ENOSPC", log=rig.base / "log", paths=(rig.mirror,)))
    kept = (rig.mirror / "thing").read_text()
    healed = rig.once()

    named = [line["path"] for line in done.of("file_failed")]
    assert done.failed["thing"] == "no_space"
    assert len(named) == len(set(named)) == done.counts[3]
    assert (done.code, done.copied) == (3, {"a"})
    assert not done.of("replaced_by_folder")
    assert kept == "old thing"
    assert (healed.code, healed.copied) == (0, {"thing/deeper/file"})
    assert healed.the("replaced_by_folder")["path"] == "thing"
    assert healed.the("replaced_by_folder")["kind"] == "file"
    assert rig.mirrored == rig.wanted
    assert not rig.temps


@limited
def test_a_stop_after_metadata_was_mended_tells_and_counts_it(rig: Rig) -> None:
    (rig.source / "mended").write_text("content")
    rig.once()
    (rig.source / "mended").chmod(0o600)
    (rig.source / "slow").write_bytes(bytes(SLOW * 20))
    rig.configure(rate_limit=SLOW)

    with rig.started("run", "--once") as running:
        at_work(rig.mirror)
        code, _ = running.end(signal.SIGTERM)
        updated = running.wait_for("file_updated")
        finished = running.wait_for("cycle_finished")

    assert code == 143
    assert (updated["path"], updated["permissions"]) == ("mended", "600")
    assert (finished["result"], finished["updated"], finished["copied"]) == ("stopped", 1, 0)
    assert rig.metric("files_updated_total") == 1
    assert (rig.mirror / "mended").stat().st_mode & 0o777 == 0o600
    assert not rig.temps


@pytest.mark.needs_root
def test_a_folder_of_somebody_else_is_named_when_its_owner_cannot_be_kept(
    rig: Rig, unprivileged: tuple[str, ...]
) -> None:
    (rig.source / "theirs").mkdir()
    os.chown(rig.source / "theirs", 1234, 1234)
    (rig.source / "theirs" / "file").write_text("mine")

    done = rig.once(prefix=unprivileged)

    told = done.the("metadata_not_kept")
    assert (told["path"], told["what"]) == ("theirs", "owner")
    assert done.code == 0
    assert done.copied == {"theirs/file"}


def test_a_read_only_source_is_mirrored_again_and_again_and_its_mode_is_kept(
    rig: Rig, unprivileged: tuple[str, ...]
) -> None:
    (rig.source / "file").write_text("one")
    (rig.source / "sub").mkdir()
    rig.source.chmod(0o555)
    done = []
    for content in ("one", "two!", "three"):
        (rig.source / "file").write_text(content)
        (rig.source / "sub" / content).write_text(content)

        done.append(rig.once(prefix=unprivileged))

        assert rig.mirror.stat().st_mode & 0o777 == 0o555
        assert rig.mirrored == rig.wanted
    assert [each.code for each in done] == [0, 0, 0]


@pytest.mark.parametrize("descriptors", [64, 128])
def test_a_deep_tree_needs_few_descriptors(rig: Rig, descriptors: int) -> None:
    deepest = rig.source.joinpath(*(["d"] * 300))
    deepest.mkdir(parents=True)
    for folder in (deepest, deepest.parent, rig.source / "d"):
        (folder / "file").write_text("deep")

    done = rig.once(limit=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors)))

    assert (done.code, done.counts) == (0, (3, 0, 0, 0))
    assert rig.mirrored == rig.wanted


@pytest.mark.needs_root
@pytest.mark.needs_tool("mkfs.ext4")
def test_an_attribute_too_large_for_the_mirror_is_named_and_the_file_is_copied(rig: Rig) -> None:
    image = rig.base / "disk.img"
    with image.open("wb") as file:
        file.truncate(16 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-O", "^has_journal,^ea_inode", str(image)], check=True)

    with mounted("tmpfs", rig.source, "-t", "tmpfs"), mounted(str(image), rig.mirror, "-o", "loop"):
        for name in ("large", "other"):
            (rig.source / name).write_text(f"content of {name}")
        os.setxattr(rig.source / "large", "user.note", b"x" * 20_000)
        os.setxattr(rig.source / "other", "user.note", b"short")
        done, again = rig.once(), rig.once()
        mirrored, wanted = tree_of(rig.mirror), tree_of(rig.source)

    told = done.the("metadata_not_kept")
    assert (told["path"], told["what"]) == ("large", "xattr")
    assert (done.code, again.code) == (0, 0)
    assert done.copied == {"large", "other"}
    assert again.counts[0] == 0
    assert mirrored[b"large"] == wanted[b"large"]._replace(xattrs={})
    assert mirrored[b"other"] == wanted[b"other"]
