"""Folders named in the config are opened without following links of other users."""

import os
from pathlib import Path

import pytest

from job.fs.trusted_path import UntrustedPath, open_trusted_folder, open_trusted_parent, open_trusted_place

STRANGER = 65534


def place_of(descriptor: int) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def give_away(link: Path) -> None:
    os.chown(link, STRANGER, STRANGER, follow_symlinks=False)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "real/below").mkdir(parents=True)
    return tmp_path.resolve()


@pytest.mark.parametrize("target", ["real/below", "./real//below/", "../{name}/real/below", "{base}/real/below"])
def test_own_links_lead_where_the_kernel_leads(base: Path, target: str) -> None:
    (base / "link").symlink_to(target.format(base=base, name=base.name))

    for path in (base / "link", base / "link/../below", base / "link/."):
        assert place_of(open_trusted_folder(str(path))) == os.path.realpath(path)


def test_relative_paths_begin_in_the_working_folder(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(base / "real")

    assert place_of(open_trusted_folder("below")) == str(base / "real/below")
    assert place_of(open_trusted_folder("../real/./below/")) == str(base / "real/below")
    assert place_of(open_trusted_parent("new")[0]) == str(base / "real")


@pytest.mark.needs_root
@pytest.mark.parametrize("below", ["", "/below", "/below/.."])
def test_a_link_of_another_user_is_not_followed_wherever_it_is_on_the_way(base: Path, below: str) -> None:
    (base / "planted").symlink_to("real")
    give_away(base / "planted")
    (base / "own").symlink_to("planted")

    for path in (base / "planted", base / "own"):
        with pytest.raises(UntrustedPath, match=f"planted is a link of user {STRANGER}") as caught:
            open_trusted_place(f"{path}{below}")
        assert caught.value.link == str(base / "planted")
        assert str(base / "planted") in caught.value.hint


@pytest.mark.parametrize(("mode", "trusted"), [(0o755, True), (0o775, True), (0o1777, True), (0o777, False)])
def test_own_links_are_followed_except_where_everybody_may_exchange_them(
    base: Path, mode: int, *, trusted: bool
) -> None:
    (base / "open").mkdir()
    (base / "open").chmod(mode)
    (base / "open/link").symlink_to("../real")

    if trusted:
        assert place_of(open_trusted_folder(str(base / "open/link"))) == str(base / "real")
    else:
        with pytest.raises(UntrustedPath, match="everybody may write to"):
            open_trusted_folder(str(base / "open/link"))
    (base / "open/folder").mkdir()
    assert place_of(open_trusted_folder(str(base / "open/folder"))) == str(base / "open/folder")


@pytest.mark.parametrize(
    ("path", "error", "where"),
    [
        ("missing/below", FileNotFoundError, "missing"),
        ("real/missing", FileNotFoundError, "real/missing"),
        ("file/below", NotADirectoryError, "file"),
        ("file", NotADirectoryError, "file"),
        ("fifo", NotADirectoryError, "fifo"),
        ("dangling", FileNotFoundError, "nowhere"),
        ("loop", OSError, "loop"),
    ],
)
def test_what_cannot_be_opened_is_named_and_no_descriptor_is_left(
    base: Path, path: str, error: type[OSError], where: str
) -> None:
    (base / "file").touch()
    os.mkfifo(base / "fifo")
    (base / "dangling").symlink_to("nowhere")
    (base / "loop").symlink_to("loop")
    before = os.listdir("/proc/self/fd")

    with pytest.raises(error) as caught:
        open_trusted_folder(str(base / path))

    assert caught.value.filename == str(base / where)
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize("path", ["", "/", ".", "..", "real/.."])
def test_a_path_without_a_last_name_has_no_parent(path: str) -> None:
    with pytest.raises(OSError, match=r"."):
        open_trusted_parent(path)


def test_a_parent_is_given_with_the_last_name_whatever_has_it(base: Path) -> None:
    (base / "dangling").symlink_to("nowhere")

    folder, name = open_trusted_parent(f"{base}/dangling/")

    assert name == b"dangling"
    assert place_of(folder) == str(base)
