"""Records of pairs outside their mirrors: where they lie, what they say, and what is never made for them."""

import os
import stat
from pathlib import Path

import pytest

from job.fs.trusted_path import make_folders
from job.store.pair_records import MirrorRecord, PairRecords
from tests.config.configs import to_settings


def records(base: Path, **environ: str) -> PairRecords:
    config = to_settings(source_dirs=[str(base / "s")], dest_dirs=[str(base / "m")])
    return PairRecords.of(config, environ)


def test_records_lie_where_the_config_or_the_user_says(tmp_path: Path) -> None:
    home = str(tmp_path)
    state_dir = to_settings(source_dirs=["/s"], dest_dirs=["/m"], state_dir="/state")

    assert PairRecords.of(state_dir, {"HOME": home}).base == "/state/.pairs"
    assert records(tmp_path, HOME=home).base == f"{home}/.local/state/truecopy/pairs"
    assert records(tmp_path, HOME=home, XDG_STATE_HOME="/elsewhere").base == "/elsewhere/truecopy/pairs"
    assert records(tmp_path, HOME=home, XDG_STATE_HOME="not/absolute").base == f"{home}/.local/state/truecopy/pairs"


def test_what_is_remembered_is_known_by_the_mirrors_path_and_private(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    kept = records(tmp_path, HOME=str(home))
    assert kept.mirror_record(str(tmp_path / "m")) is None

    kept.record_mirror("p", str(tmp_path / "s"), str(tmp_path / "m"))

    mirror_record = records(tmp_path, HOME=str(home)).mirror_record(str(tmp_path / "x/../m"))
    assert mirror_record is not None
    assert (mirror_record.source, mirror_record.since[:2]) == (str(tmp_path / "s"), "20")
    assert kept.mirror_record(str(tmp_path / "other")) is None
    for path in home.rglob("*"):
        assert stat.S_IMODE(path.lstat().st_mode) & 0o077 == 0, path


def test_names_that_are_no_text_are_remembered(tmp_path: Path) -> None:
    strange = os.fsdecode(b'/m \xff\n"')
    kept = PairRecords(str(tmp_path / "pairs"))

    kept.record_mirror("p", strange, strange)

    assert kept.mirror_record(strange) == MirrorRecord(strange, kept.mirror_record(strange).since)  # type: ignore[union-attr]


@pytest.mark.parametrize("content", [b"", b"\xff", b"7", b'{"source": 1}', b"[" * 100_000])
def test_a_damaged_record_is_a_known_mirror(tmp_path: Path, content: bytes) -> None:
    kept = PairRecords(str(tmp_path / "pairs"))
    kept.record_mirror("p", "/s", "/m")
    [file] = tmp_path.rglob("known.json")
    file.write_bytes(content)

    assert kept.mirror_record("/m") == MirrorRecord("", "")


@pytest.mark.parametrize(
    ("path", "sources", "mirrors"),
    [
        ("state", [], ["state"]),
        ("state", [], ["state/mirror"]),
        ("mirror/state", [], ["mirror"]),
        ("source", ["source"], []),
        ("disk/state", ["disk/source"], []),
        ("empty/state", ["empty"], []),
        ("link/state", [], ["mirror"]),
    ],
)
def test_nothing_is_made_that_could_be_taken_for_a_source_or_a_mirror(
    tmp_path: Path, path: str, sources: list[str], mirrors: list[str]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "mirror").mkdir()
    (tmp_path / "link").symlink_to("mirror")
    before = sorted(tmp_path.rglob("*"))

    with pytest.raises(PermissionError, match="is not made, since the disk of"):
        make_folders(
            str(tmp_path / path), [str(tmp_path / each) for each in sources], [str(tmp_path / each) for each in mirrors]
        )

    assert sorted(tmp_path.rglob("*")) == before


def test_what_exists_is_opened_and_what_is_missing_beside_is_made(tmp_path: Path) -> None:
    os.close(make_folders(str(tmp_path / "a/b"), [str(tmp_path / "a source")], [str(tmp_path / "mirror")]))

    assert (tmp_path / "a/b").is_dir()


def test_why_nothing_is_remembered_is_said_once(tmp_path: Path) -> None:
    kept = records(tmp_path, HOME=str(tmp_path / "gone"))

    assert "gone does not exist" in kept.try_record_mirror("p", "/s", "/m")
    assert kept.try_record_mirror("p", "/s", "/m") == ""
    assert kept.mirror_record("/m") is None
