"""`truecopy restore`: what stood there at a time comes back, checked, and nothing that is there is lost."""

import json
import math
import os
import re
import stat
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from job.core.versions import Moment, VersionReason, VersionRow, VersionsDone, moment_of
from job.locking import lock
from job.store.index import Index
from job.store.version_rows import encode_versions
from tests.faults.rig import UNPRIVILEGED, Done, Rig
from tests.faults.trees import Tree, plant, tree_of

OLD = "20261101T100000Z"
OLDER = "20261001T100000Z"
BEFORE_OLD = "2026-11-01T09:00:00+00:00"
BEFORE_OLDER = "2026-10-01T09:00:00+00:00"


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    rig = Rig(tmp_path)
    (rig.source / "folder" / "below").mkdir(parents=True)
    (rig.source / "folder" / "file").write_text("of today")
    (rig.source / "folder" / "below" / "other").write_text("other")
    (rig.source / "top").write_text("top")
    rig.once()
    return rig


@pytest.fixture
def out(rig: Rig) -> Path:
    return rig.base / "out"


def keep(rig: Rig, moment: str, path: str, content: str) -> Path:
    """Lay an older content down as a cycle keeps it."""
    place = rig.state / "versions" / moment / path
    missing = [each for each in place.parents if not each.exists()]
    for each in reversed(missing):
        each.mkdir(mode=0o700)
    place.write_text(content)
    return place


def record(rig: Rig, moment: str, path: str, **fields: Any) -> None:
    """Have the index know a version, as a cycle does."""
    place = rig.state / "versions" / moment / path
    found = moment_of(moment.encode())
    assert found is not None
    seen = place.stat() if place.exists() else None
    known: dict[str, Any] = {
        "name": os.fsencode(place.name),
        "mode": seen.st_mode if seen else stat.S_IFREG | 0o644,
        "size": seen.st_size if seen else 1,
        "since_ns": 0,
        "until_ns": found.seconds * 10**9,
        "checksum": "",
        "why": VersionReason.REPLACED,
        "replaced_another": False,
    }
    rows = encode_versions([VersionRow(**known | fields)])
    done = VersionsDone(os.fsencode(os.path.dirname(path)), found, rows, files=1, bytes=1)
    index = Index.open(str(rig.state))
    index.commit([], [], versions=[done])
    # Nothing was given up since 1970: otherwise the index knows only what was replaced since the first cycle.
    index._db.execute("INSERT OR REPLACE INTO fact VALUES ('versions_complete_timestamp_seconds', 1.0)")
    index.close()


def back(rig: Rig, *arguments: str, code: int = 0) -> Done:
    done = rig.run("restore", *arguments)
    assert done.code == code, (done.code, done.stdout, done.stderr)
    return done


def below(tree: Tree) -> Tree:
    """Give a tree without its root, whose metadata is not restored."""
    return {path: thing for path, thing in tree.items() if path}


def test_a_file_comes_back_with_its_path_and_is_said_before_it_is_made(rig: Rig, out: Path) -> None:
    done = back(rig, "--to", str(out), "folder/file")

    assert (out / "folder" / "file").read_text() == "of today"
    assert tree_of(out)[b"folder/file"] == rig.wanted[b"folder/file"]
    lines = done.stdout.splitlines()
    assert re.match(r"# source: as the mirror is now, \w+ \d{4}-\d\d-\d\d \d\d:\d\d:\d\d \+0000$", lines[0])
    assert lines[1].startswith(f"# source: to {out}/folder/file (8 B")
    assert lines[2:] == ["restored   source  folder/file", "# source: 1 restored (8 B written)"]
    assert not (out / "top").exists()


def test_a_whole_tree_comes_back_as_its_source_was(tmp_path: Path) -> None:
    rig, out = Rig(tmp_path), tmp_path / "out"
    plant(rig.source)
    rig.once()

    back(rig, "--to", str(out))

    wanted = {path: thing for path, thing in below(rig.mirrored).items() if not path.startswith(b".stfolder")}
    assert below(tree_of(out)) == wanted
    assert not list(out.rglob(".truecopy*"))


def test_hard_links_come_back_as_links_and_holes_as_holes(tmp_path: Path) -> None:
    rig, out = Rig(tmp_path), tmp_path / "out"
    (rig.source / "one").write_text("content")
    (rig.source / "sub").mkdir()
    os.link(rig.source / "one", rig.source / "sub" / "two")
    with (rig.source / "sparse").open("wb") as file:
        file.truncate(64 << 20)
        file.write(b"start")
    rig.once()

    done = back(rig, "--to", str(out))

    assert (out / "one").stat().st_ino == (out / "sub" / "two").stat().st_ino
    assert (out / "sparse").stat().st_size == 64 << 20
    assert (out / "sparse").stat().st_blocks * 512 < 1 << 20
    assert "3 restored" in done.stdout


def test_the_content_of_a_time_is_taken_from_the_versions(rig: Rig, out: Path) -> None:
    keep(rig, OLD, "folder/file", "of October")
    keep(rig, OLDER, "folder/file", "of September")

    october = back(rig, "--at", BEFORE_OLD, "--to", str(out / "october"), "folder/file")
    september = back(rig, "--at", BEFORE_OLDER, "--to", str(out / "september"), "folder/file")
    now = back(rig, "--to", str(out / "now"), "folder/file")

    assert [(out / each / "folder" / "file").read_text() for each in ("october", "september", "now")] == [
        "of October",
        "of September",
        "of today",
    ]
    assert "likely     source  folder/file" in october.stdout  # nothing tells since when it stood
    assert f"version {OLDER}" in september.stdout
    assert "without a recorded checksum" in october.stdout
    assert "likely" not in now.stdout


def test_what_the_index_knows_makes_the_answer_certain(rig: Rig, out: Path) -> None:
    keep(rig, OLD, "folder/file", "of October")
    digest = "sha256:" + subprocess.check_output(["sha256sum"], input=b"of October").decode().split()[0]
    record(rig, OLD, "folder/file", since_ns=1_790_000_000 * 10**9, checksum=digest)

    done = back(rig, "--at", BEFORE_OLD, "--to", str(out), "folder/file")
    before = back(rig, "--at", "2026-09-01", "--to", str(out / "early"), "folder/file", code=3)

    assert (out / "folder" / "file").read_text() == "of October"
    assert "restored   source  folder/file  (version 20261101T100000Z)" in done.stdout
    assert "without a recorded checksum" not in done.stdout
    assert "absent     source  folder/file  (it was new later)" in before.stdout
    assert not (out / "early" / "folder").exists()


def test_a_content_that_was_given_up_is_not_replaced_by_a_later_one(rig: Rig, out: Path) -> None:
    keep(rig, OLD, "folder/file", "of October")
    record(rig, OLD, "folder/file", since_ns=1_790_000_000 * 10**9, replaced_another=True)

    done = back(rig, "--at", "2026-09-01", "--to", str(out), code=3)

    assert "not_kept   source  folder/file  (what stood there then is not kept any more)" in done.stdout
    assert not (out / "folder" / "file").exists()


def test_a_removed_file_and_a_folder_that_is_gone_come_back_from_the_versions_alone(rig: Rig, out: Path) -> None:
    keep(rig, OLD, "gone/deep/file", "removed")

    back(rig, "--at", BEFORE_OLD, "--to", str(out), "gone")
    now = back(rig, "--to", str(out / "now"), "gone/deep/file", code=3)

    assert (out / "gone" / "deep" / "file").read_text() == "removed"
    assert "absent     source  gone/deep/file  (it is not in the mirror now)" in now.stdout
    assert re.search(rf"is kept: --at \S+ \({OLD}\)", now.stdout)
    assert not (out / "now" / "gone").exists()


def test_a_path_that_was_a_file_and_is_a_folder_now_comes_back_as_either(rig: Rig, out: Path) -> None:
    keep(rig, OLD, "folder", "was a file")
    record(rig, OLD, "folder", since_ns=1_790_000_000 * 10**9, why=VersionReason.GAVE_WAY)

    back(rig, "--at", BEFORE_OLD, "--to", str(out / "then"), "folder")
    back(rig, "--to", str(out / "now"), "folder")

    assert (out / "then" / "folder").read_text() == "was a file"
    assert (out / "now" / "folder" / "file").read_text() == "of today"


def test_without_an_index_the_folders_decide(rig: Rig, out: Path) -> None:
    keep(rig, OLD, "folder/file", "of October")
    (rig.state / "index.sqlite3").unlink()

    done = back(rig, "--at", BEFORE_OLD, "--to", str(out))

    assert (out / "folder" / "file").read_text() == "of October"
    assert (out / "top").read_text() == "top"
    assert "likely     source  top  (it may be newer: only its last change is known)" in done.stdout
    assert not (rig.state / "index.sqlite3").exists(), "nothing is made in the state"


def test_nothing_that_is_there_is_overwritten(rig: Rig) -> None:
    file = rig.source / "folder" / "file"
    file.write_text("edited")
    before = file.stat()

    done = back(rig, "--in-place", code=3)

    assert file.read_text() == "edited"
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert "exists     source  folder/file" in done.stdout
    assert "2 there already" in done.stdout


def test_with_overwrite_what_was_there_is_kept_beside_unless_it_is_equal(rig: Rig) -> None:
    file, equal = rig.source / "folder" / "file", (rig.source / "top").stat()
    file.write_text("edited")

    done = back(rig, "--in-place", "--overwrite")

    [beside] = [each for each in file.parent.iterdir() if ".before-restore-" in each.name]
    assert (file.read_text(), beside.read_text()) == ("of today", "edited")
    assert f"what was there is now {beside.name}" in done.stdout
    assert (rig.source / "top").stat() == equal


def test_a_restored_folder_leaves_its_siblings_and_the_folders_above_alone(rig: Rig) -> None:
    rig.source.chmod(0o710)
    (rig.source / "folder").chmod(0o750)
    subprocess.run(["rm", "-r", rig.source / "folder" / "below"], check=True)
    before = {
        path: (each.st_ino, each.st_mode, each.st_uid, each.st_gid)
        for path in (rig.source, rig.source / "folder", rig.source / "folder" / "file", rig.source / "top")
        for each in [path.stat()]
    }

    back(rig, "--in-place", "folder/below")

    assert (rig.source / "folder" / "below" / "other").read_text() == "other"
    for path, known in before.items():
        now = path.stat()
        assert (now.st_ino, now.st_mode, now.st_uid, now.st_gid) == known
    assert (rig.source / "top").stat().st_mtime_ns == (rig.mirror / "top").stat().st_mtime_ns


def test_new_folders_above_a_restored_file_get_their_metadata(rig: Rig, out: Path) -> None:
    (rig.source / "folder").chmod(0o711)
    rig.once()

    back(rig, "--to", str(out), "folder/file")

    assert tree_of(out)[b"folder"] == rig.mirrored[b"folder"]


def test_a_tree_of_read_only_folders_comes_back_for_an_ordinary_user(tmp_path: Path) -> None:
    rig, out = Rig(tmp_path), tmp_path / "out"
    (rig.source / "a" / "b").mkdir(parents=True)
    (rig.source / "a" / "b" / "file").write_text("content")
    (rig.source / "empty").mkdir(mode=0o555)
    for each in ("a/b", "a"):
        (rig.source / each).chmod(0o555)
    assert rig.once(prefix=UNPRIVILEGED).code == 0

    done = rig.run("restore", "--to", str(out), prefix=UNPRIVILEGED)

    assert done.code == 0, done
    assert below(tree_of(out)) == below(rig.wanted)
    for each in ("a", "a/b", "empty"):
        for base in (rig.source, rig.mirror, out):
            (base / each).chmod(0o755)


def test_a_rotten_copy_is_named_and_the_next_content_is_offered(rig: Rig, out: Path) -> None:
    file = rig.mirror / "folder" / "file"
    before = file.stat()
    keep(rig, OLD, "folder/file", "of October")
    with file.open("r+") as opened:
        opened.write("oF")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))

    done = back(rig, "--to", str(out), code=3)

    assert "rotten     source  folder/file  (it has the checksum sha256:" in done.stdout
    [offered] = re.findall(r"is kept: --at (\S+) \(20261101T100000Z\)", done.stdout)
    assert not (out / "folder" / "file").exists()
    assert (out / "top").read_text() == "top", "the others come back"
    back(rig, "--at", offered, "--to", str(out), "folder/file")
    assert (out / "folder" / "file").read_text() == "of October"


def test_what_another_program_changed_in_the_mirror_is_not_taken_for_the_backup(rig: Rig, out: Path) -> None:
    (rig.mirror / "top").write_text("changed by another program")

    done = back(rig, "--to", str(out), "top", code=3)

    assert "another program changed it in the mirror" in done.stdout
    assert not (out / "top").exists()


def test_programs_get_a_json_object_a_line(rig: Rig, out: Path) -> None:
    keep(rig, OLD, "folder/file", "of October")

    done = back(rig, "--json", "--at", BEFORE_OLD, "--to", str(out), "folder/file")
    start, entry, end = map(json.loads, done.stdout.splitlines())

    assert (start["what"], start["at"], start["first"]) == ("start", BEFORE_OLD, f"{out}/folder/file")
    assert (entry["what"], entry["path"], entry["version"]) == ("likely", "folder/file", OLD)
    assert entry["reason"].startswith("it may be newer")
    assert (end["what"], end["counts"], end["unchecked"]) == ("end", {"likely": 1}, 1)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["top"], "Say where to restore to"),
        (["--to", "out", "--in-place", "top"], "Say where to restore to"),
        (["--to", "out", "--at", "tomorrow", "top"], "future"),
        (["--to", "out", "--at", "05/06/2026", "top"], "which number is the day"),
        (["--to", "out", "../top"], "leads out of the source"),
        (["--to", "out", "/etc/passwd"], "is below no source"),
        (["--to", "out", ".truecopy/versions"], "is Truecopy's own"),
        (["--to", "out", "--pair", "no", "top"], "There is no pair 'no'"),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, list) else "",
)
def test_a_mistake_is_2_and_makes_nothing(rig: Rig, arguments: list[str], said: str) -> None:
    done = rig.run("restore", *arguments)

    assert done.code == 2
    assert said in done.stderr
    assert not Path("out").exists()


def test_a_whole_path_is_one_of_the_source_or_of_the_mirror(rig: Rig, out: Path) -> None:
    back(rig, "--to", str(out), str(rig.source / "top"), str(rig.mirror / "folder" / "file"))

    assert sorted(path.name for path in out.rglob("*") if path.is_file()) == ["file", "top"]


def test_of_several_pairs_each_has_its_own_folder(tmp_path: Path) -> None:
    rig, out = Rig(tmp_path), tmp_path / "out"
    pairs = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
        (tmp_path / f"{name}-mirror").mkdir()
        pairs.append({"name": name, "source": str(tmp_path / name), "dest": str(tmp_path / f"{name}-mirror")})
    rig.configure(pairs=pairs)
    rig.once()

    which = back(rig, "--to", str(out), "file", code=2)
    back(rig, "--to", str(out))

    assert "Which pair is 'file' of?" in which.stderr
    assert [(out / name / "file").read_text() for name in ("one", "two")] == ["one", "two"]


def test_a_source_that_is_gone_is_restored_elsewhere(rig: Rig, out: Path) -> None:
    wanted = below(rig.wanted)
    subprocess.run(["rm", "-r", rig.source], check=True)

    back(rig, "--to", str(out))
    in_place = back(rig, "--in-place", code=4)

    assert below(tree_of(out)) == wanted
    assert "does not exist" in in_place.stderr


def test_a_mirror_that_is_missing_and_a_target_in_a_mirror_are_refused(rig: Rig) -> None:
    inside = back(rig, "--to", str(rig.mirror / "folder"), code=4)
    new = back(rig, "--to", str(rig.mirror / "new"), code=4)
    rig.mirror.rename(rig.base / "elsewhere")
    missing = back(rig, "--to", str(rig.base / "out"), code=4)

    assert "lies in, the mirror" in inside.stderr
    assert str(rig.mirror) in new.stderr
    assert not (rig.base / "elsewhere" / "new").exists()
    assert "does not exist" in missing.stderr


def test_a_restore_waits_for_a_cycle_that_has_the_lock(rig: Rig, out: Path) -> None:
    state = os.open(rig.state, os.O_RDONLY)
    held = lock.acquire(state, "source", time.time())
    with rig.started("restore", "--to", str(out)) as running:
        time.sleep(2)
        assert not out.exists()
        os.close(held)
        assert running.process.wait(30) == 0
    os.close(state)

    assert (out / "top").read_text() == "top"


def test_neither_mirror_nor_state_are_changed_by_a_restore(rig: Rig, out: Path) -> None:
    keep(rig, OLD, "folder/file", "of October")
    before = changes(rig.mirror)

    back(rig, "--at", BEFORE_OLD, "--to", str(out))

    assert changes(rig.mirror) == before


def changes(root: Path) -> dict[str, int]:
    """Give the ctime of everything but the lock, whose record names its holder."""
    return {str(path): path.lstat().st_ctime_ns for path in root.rglob("*") if path.name != "lock"}


def test_a_second_restore_finds_everything_there_already(rig: Rig, out: Path) -> None:
    back(rig, "--to", str(out))
    before = changes(out)

    again = back(rig, "--to", str(out))

    assert "3 there already" in again.stdout
    assert changes(out) == before


def test_cp_brings_a_version_back_too(rig: Rig, out: Path) -> None:
    keep(rig, OLD, "folder/file", "of October")
    out.mkdir()

    subprocess.run(["cp", "-a", rig.state / "versions" / OLD / "folder" / "file", out], check=True)

    assert (out / "file").read_text() == "of October"


def test_moments_of_the_same_second_are_told_apart(rig: Rig, out: Path) -> None:
    keep(rig, OLD, "top", "first")
    keep(rig, f"{OLD}-2", "top", "second")

    back(rig, "--at", BEFORE_OLD, "--to", str(out), "top")

    assert moment_of(f"{OLD}-2".encode()) == Moment(1_793_527_200, 2)
    assert (out / "top").read_text() == "first"


def test_what_cycles_replaced_is_found_and_comes_back_byte_for_byte(rig: Rig, out: Path) -> None:
    wanted = below(rig.wanted)
    times = [time.time()]
    for content in ("edited", "encrypted" * 1000):
        time.sleep(1.1)
        (rig.source / "folder" / "file").write_text(content)
        (rig.source / f"new {len(times)}").write_text(content)
        rig.once()
        time.sleep(0.1)
        times.append(time.time())

    listed = [json.loads(line) for line in rig.run("versions", "--json", "folder/file").stdout.splitlines()]
    done = back(rig, "--at", iso(times[0]), "--to", str(out))
    edited = back(rig, "--at", iso(times[1]), "--to", str(out / "edited"), "folder/file", "new 2", code=3)

    assert [(each["why"], each["checksum"][:7]) for each in listed[1:]] == [("replaced", "sha256:")] * 2
    assert below(tree_of(out))[b"folder/file"] == wanted[b"folder/file"]
    assert "without a recorded checksum" not in done.stdout
    assert (out / "edited" / "folder" / "file").read_text() == "edited"
    assert "absent     source  new 2" in edited.stdout


def iso(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S Z", time.gmtime(math.ceil(seconds)))


def test_a_path_below_another_is_restored_once(rig: Rig) -> None:
    (rig.source / "folder" / "file").write_text("edited")

    done = back(rig, "--in-place", "--overwrite", "folder/file", "folder", "folder/file")

    assert "1 restored" in done.stdout
    assert len(list((rig.source / "folder").glob("*.before-restore-*"))) == 1


def test_fifos_come_back_and_are_found_there_the_second_time(tmp_path: Path) -> None:
    rig, out = Rig(tmp_path, {"specials": "recreate"}), tmp_path / "out"
    os.mkfifo(rig.source / "fifo", 0o640)
    (rig.source / "file").write_text("content")
    rig.once()

    back(rig, "--to", str(out))
    again = back(rig, "--to", str(out))

    assert stat.S_ISFIFO((out / "fifo").stat().st_mode)
    assert "2 there already" in again.stdout


def test_a_mirror_of_another_source_is_named_and_not_restored_in_place(rig: Rig, out: Path) -> None:
    made_of = rig.source
    rig.configure(source_dirs=[str(rig.base / "moved")])
    (rig.base / "moved").mkdir()

    done = back(rig, "--to", str(out), "top")
    refused = back(rig, "--in-place", code=4)

    assert done.stdout.splitlines()[0] == (
        f"# moved: {rig.mirror} is the mirror of {made_of}, not of {rig.base / 'moved'}"
    )
    assert (out / "top").read_text() == "top"
    assert "restore with --to DIR" in refused.stderr
    assert list((rig.base / "moved").iterdir()) == []
