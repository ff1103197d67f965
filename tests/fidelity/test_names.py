"""Names on mirrors that do not hold every name as it is: none is ever written over another."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.crowded import FEW
from tests.faults.rig import Rig
from tests.faults.trees import temps_below
from tests.fidelity import foreign
from tests.fidelity.judging import compared
from tests.fidelity.nature import Nature

HFS = Nature(normalise="NFD", fold_case=True, grain_ns=10**9, forbidden=":")
SMB = Nature(fold_case=True, grain_ns=100, strip=". ", forbidden=':?*<>|"\\')
FOLDING = [
    pytest.param("exfat", marks=foreign.EXFAT),
    pytest.param(HFS, marks=foreign.NAS, id="hfs"),
    pytest.param(SMB, marks=foreign.NAS, id="smb"),
]
hfs_only = pytest.mark.parametrize("mirror", FOLDING[1:2])
strict = pytest.mark.parametrize("mirror", [FOLDING[0], FOLDING[2]])


@contextmanager
def rig_on(base: Path, mirror: str | Nature) -> Iterator[Rig]:
    at = base / "mirror"
    with foreign.nas(at, mirror) if isinstance(mirror, Nature) else foreign.exfat(at, base / "image"):
        yield Rig(base, {"audit_interval": 0})


def plant(rig: Rig, *names: str) -> None:
    for name in names:
        place = rig.source / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(f"content of {name}")


def at_rest(rig: Rig, entries: int) -> None:
    assert rig.once().counts == (0, 0, entries, 0)


@pytest.mark.parametrize("mirror", FOLDING)
def test_two_names_that_the_mirror_takes_for_one_fail_and_what_was_there_stays(
    tmp_path: Path, mirror: str | Nature
) -> None:
    with rig_on(tmp_path, mirror) as rig:
        plant(rig, "Case", "other")
        assert rig.once().code == 0
        plant(rig, "case")
        (rig.source / "Case").write_text("edited")

        for _ in range(2):
            done = rig.once()
            assert (done.code, done.failed) == (3, {"Case": "name", "case": "name"})
            assert "'Case' and 'case'" in done.of("file_failed")[0]["error"]
            assert (rig.mirror / "Case").read_text() == "content of Case"

        (rig.source / "case").unlink()
        assert rig.once().copied == {"Case"}
        assert (rig.mirror / "Case").read_text() == "edited"
        assert temps_below(rig.mirror) == []


@pytest.mark.parametrize("mirror", FOLDING)
def test_two_folders_that_the_mirror_takes_for_one_are_not_mixed(tmp_path: Path, mirror: str | Nature) -> None:
    with rig_on(tmp_path, mirror) as rig:
        plant(rig, "Fold/a", "fOLD/a", "fOLD/b", "other")

        done = rig.once()

        assert (done.code, done.failed) == (3, {"Fold": "name", "fOLD": "name"})
        assert done.copied == {"other"}
        assert not (rig.mirror / "Fold").exists()


@pytest.mark.parametrize("mirror", FOLDING)
def test_a_name_that_changes_its_case_does_so_in_the_mirror_and_copies_nothing(
    tmp_path: Path, mirror: str | Nature
) -> None:
    with rig_on(tmp_path, mirror) as rig:
        plant(rig, "README", "Folder/inner")
        rig.once()
        (rig.source / "README").rename(rig.source / "readme")
        (rig.source / "Folder").rename(rig.source / "folder")

        done = rig.once()

        assert (done.code, done.copied) == (0, set())
        assert {path.name for path in rig.mirror.iterdir()} - {".truecopy"} == {"readme", "folder"}
        at_rest(rig, 2)


@hfs_only
def test_names_in_either_normal_form_are_copied_once_where_the_mirror_knows_one_only(
    tmp_path: Path, mirror: Nature
) -> None:
    with rig_on(tmp_path, mirror) as rig:
        plant(rig, "caf\u00e9", "Ne\u0301", "Stra\u00dfe", "M\u00fcsli/\u00fc")

        done = rig.once()

        assert (done.code, len(done.copied)) == (0, 4)
        at_rest(rig, 4)
        assert compared(rig) == []
        (rig.mirror / "M\u00fcsli/\u00fcber").write_text("a stranger's")
        # A stranger's file moves its folder's time, which shows once a second has passed.
        assert {line.split()[0] for line in compared(rig)} - {"times"} == {"extra"}
        (rig.source / "caf\u00e9").write_text("edited")
        assert rig.once().copied == {"caf\u00e9"}
        assert (rig.mirror / "caf\u00e9").read_text() == "edited"


@hfs_only
def test_a_name_that_only_the_server_takes_for_another_one_is_not_written_over_it(
    tmp_path: Path, mirror: Nature
) -> None:
    """Nobody can foresee every server's table; this one takes `\u00df` for `ss`."""
    with rig_on(tmp_path, mirror) as rig:
        plant(rig, "Strasse", "Stra\u00dfe")

        for _ in range(2):
            done = rig.once()

            assert (done.code, done.failed) == (3, {"Stra\u00dfe": "name"})
            assert (rig.mirror / "Strasse").read_text() == "content of Strasse"
        assert temps_below(rig.mirror) == []


@hfs_only
def test_both_forms_of_one_name_fail_where_the_mirror_knows_one_only(tmp_path: Path, mirror: Nature) -> None:
    with rig_on(tmp_path, mirror) as rig:
        plant(rig, "N\u00e9", "Ne\u0301")

        assert rig.once().failed == {"N\u00e9": "name", "Ne\u0301": "name"}


@strict
def test_what_the_mirror_cannot_hold_in_a_name_is_told_and_left_out_with_all_below_it(
    tmp_path: Path, mirror: str | Nature
) -> None:
    with rig_on(tmp_path, mirror) as rig:
        plant(rig, "a:b", "what?/inner/file", "fine", "fine folder/x|y")

        done = rig.once()

        assert done.failed == {"a:b": "name", "what?": "name", "fine folder/x|y": "name"}
        assert (
            "holds no names with :" in next(each for each in done.of("file_failed") if each["path"] == "a:b")["error"]
        )
        assert done.copied == {"fine"}
        assert rig.once().failed == done.failed


@pytest.mark.parametrize("mirror", FOLDING[2:])
def test_names_that_a_server_would_cut_take_no_ones_place(tmp_path: Path, mirror: Nature) -> None:
    with rig_on(tmp_path, mirror) as rig:
        plant(rig, "dot", "dot.", "space ")

        done = rig.once()

        assert done.failed == {"dot.": "name", "space ": "name"}
        assert (rig.mirror / "dot").read_text() == "content of dot"


@pytest.mark.parametrize("mirror", FOLDING)
def test_names_in_a_folder_that_is_seen_to_in_parts_are_not_mixed_either(tmp_path: Path, mirror: str | Nature) -> None:
    with rig_on(tmp_path, mirror) as rig:
        folder = rig.source / "crowd"
        folder.mkdir()
        for number in range(10 * FEW):
            (folder / f"f{number}").touch()
        (folder / "F16").write_text("upper")
        (folder / "f16").write_text("lower")
        rig.program = "tests.faults.crowded"

        done = rig.once()

        assert done.failed == {"crowd/F16": "name", "crowd/f16": "name"}
        assert done.counts[0] == 10 * FEW - 1
        shutil.rmtree(folder)
        os.sync()
