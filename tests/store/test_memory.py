"""What is remembered of mirrors outside of them: where it lies, what it says, and what is never made for it."""

import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path

import pytest

from job.config.settings import Pair
from job.core.file_systems import FileSystemId
from job.core.mirror_identity import CycleMark, MirrorPlace
from job.fs.trusted_path import make_folders
from job.store.memory import Memory, MirrorMemory
from job.store.pair_records import ResolvedPath
from tests.config.configs import to_settings

ONE, TWO = "1" * 32, "2" * 32


def memory(base: Path, **environ: str) -> Memory:
    config = to_settings(source_dirs=[str(base / "s")], dest_dirs=[str(base / "m")])
    return Memory.of(config, environ)


def pair_of(source: str, mirror: str) -> Pair:
    (pair,) = to_settings(pairs=[{"name": "p", "source": "/s", "dest": "/m"}]).effective_pairs
    return pair._replace(source=source, dest=mirror)


def a_mirror(mirror_id: str = ONE, source: str = "/s", path: str = "/m") -> MirrorMemory:
    place = MirrorPlace(FileSystemId("a", "b"), 1, 2**64 - 1, "c", "/d")
    known = MirrorMemory(mirror_id, ResolvedPath(source, source), "2026", path, place)
    return known._replace(cycle=CycleMark(3, "mark", "upcoming"), last_success=10.5)


@dataclass
class Kept:
    """A memory, and how it looks to another process."""

    base: Path

    @property
    def again(self) -> Memory:
        return Memory(str(self.base / "pairs"))

    def remember(self, mirror: MirrorMemory, path: str = "/m") -> None:
        self.again.remember(pair_of("/s", path), mirror)


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path)


def test_it_lies_where_the_config_or_the_user_says(tmp_path: Path) -> None:
    home = str(tmp_path)
    state_dir = to_settings(source_dirs=["/s"], dest_dirs=["/m"], state_dir="/state")

    assert Memory.of(state_dir, {"HOME": home}).base == "/state/.pairs"
    assert memory(tmp_path, HOME=home).base == f"{home}/.local/state/truecopy/pairs"
    assert memory(tmp_path, HOME=home, XDG_STATE_HOME="/elsewhere").base == "/elsewhere/truecopy/pairs"
    assert memory(tmp_path, HOME=home, XDG_STATE_HOME="not/absolute").base == f"{home}/.local/state/truecopy/pairs"


def test_what_is_remembered_is_known_by_the_mirrors_path_and_private(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    kept = memory(tmp_path, HOME=str(home))
    assert kept.pair(str(tmp_path / "m")) is None

    kept.remember(pair_of(str(tmp_path / "s"), str(tmp_path / "m")), a_mirror())

    known = memory(tmp_path, HOME=str(home)).pair(str(tmp_path / "x/../m"))
    assert known == ("2026", (ONE,))
    assert kept.mirror(ONE) == a_mirror()
    assert kept.pair(str(tmp_path / "other")) is None
    for path in home.rglob("*"):
        assert stat.S_IMODE(path.lstat().st_mode) & 0o077 == 0, path


def test_mirrors_that_take_turns_are_known_by_their_ids_the_last_one_at_the_end(kept: Kept) -> None:
    for mirror_id in (ONE, TWO, ONE):
        kept.remember(a_mirror(mirror_id))

    known = kept.again.pair("/m")
    assert known is not None
    assert known.ids == (TWO, ONE)
    assert kept.again.mirrors_of(pair_of("/s", "/m")) == [a_mirror(TWO), a_mirror(ONE)]


def test_a_mirror_is_known_wherever_it_was_used_last(kept: Kept) -> None:
    kept.remember(a_mirror())
    kept.remember(a_mirror(path="/elsewhere"), "/elsewhere")

    assert (
        kept.again.mirrors_of(pair_of("/s", "/m"))
        == kept.again.mirrors_of(pair_of("/s", "/elsewhere"))
        == [a_mirror(path="/elsewhere")]
    )


def test_a_path_that_is_written_in_two_ways_is_one(tmp_path: Path, kept: Kept) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    kept.remember(a_mirror(ONE), f"{tmp_path}/link/m")
    kept.remember(a_mirror(TWO), f"{tmp_path}/m")

    known = kept.again.pair(f"{tmp_path}/link/m")
    assert known is not None
    assert set(known.ids) == {ONE, TWO}


def test_a_cycle_that_wrote_leaves_its_mark_and_the_one_to_expect_next(kept: Kept) -> None:
    kept.remember(a_mirror())

    kept.again.end_cycle(ONE, CycleMark(4, "upcoming"), 20.0)

    known = kept.again.mirror(ONE)
    assert known is not None
    assert known.cycle is not None
    assert (known.cycle.number, known.cycle.mark, known.last_success) == (4, "upcoming", 20.0)
    assert known.cycle.upcoming not in {"", "mark", "upcoming"}


@pytest.mark.parametrize("mark", [None, CycleMark(3, "mark"), CycleMark(9, "of another instance")])
def test_a_cycle_that_wrote_nothing_renews_the_time_of_its_success_once_an_hour(
    kept: Kept, mark: CycleMark | None
) -> None:
    kept.remember(a_mirror())

    kept.again.end_cycle(ONE, mark, 3600.0)
    soon = kept.again.mirror(ONE)
    kept.again.end_cycle(ONE, mark, 3620.0)
    kept.again.end_cycle(ONE, mark, None)

    assert soon == a_mirror()
    assert kept.again.mirror(ONE) == a_mirror()._replace(last_success=3620.0)


def test_names_that_are_no_text_are_remembered(kept: Kept) -> None:
    strange = os.fsdecode(b'/m \xff\n"')

    kept.again.remember(pair_of(strange, strange), a_mirror(source=strange, path=strange))

    assert kept.again.pair(strange) == ("2026", (ONE,))
    assert kept.again.mirror(ONE) == a_mirror(source=strange, path=strange)


@pytest.mark.parametrize("content", [b"", b"\xff", b"7", b'{"source": 1}', b"[" * 100_000])
def test_a_damaged_file_tells_of_a_known_mirror_and_is_written_anew(tmp_path: Path, kept: Kept, content: bytes) -> None:
    kept.remember(a_mirror())
    for file in tmp_path.rglob("*.json"):
        file.write_bytes(content)

    assert kept.again.pair("/m") == ("", ())
    assert kept.again.mirror(ONE) is None
    kept.remember(a_mirror())
    assert kept.again.mirrors_of(pair_of("/s", "/m")) == [a_mirror()]


def test_the_file_of_a_version_without_ids_tells_of_a_known_mirror(tmp_path: Path, kept: Kept) -> None:
    kept.remember(a_mirror())
    [file] = tmp_path.rglob("known.json")
    old = {"format": 1, "mirror": "/m", "source": "/s", "pair": "p", "since": "2025-01-01T00:00:00Z"}
    file.write_text(json.dumps(old))

    assert kept.again.pair("/m") == ("2025-01-01T00:00:00Z", ())
    kept.remember(a_mirror(TWO))
    assert kept.again.pair("/m") == ("2025-01-01T00:00:00Z", (TWO,))


def test_a_file_of_another_mirror_is_not_believed(tmp_path: Path, kept: Kept) -> None:
    kept.remember(a_mirror())
    mirrors = tmp_path / "pairs/.truecopy"
    (mirrors / f"{ONE}.json").rename(mirrors / f"{TWO}.json")

    assert kept.again.mirror(TWO) is None


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
    kept = memory(tmp_path, HOME=str(tmp_path / "gone"))

    assert "gone does not exist" in kept.try_remember(pair_of("/s", "/m"), a_mirror())
    assert kept.try_remember(pair_of("/s", "/m"), a_mirror()) == ""
    assert kept.pair("/m") is None
    assert kept.mirror(ONE) is None
