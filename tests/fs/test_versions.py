"""The versions folder of a mirror: paths of any depth."""

import os
import resource
from pathlib import Path

from job.fs.versions import VersionsFolder


def test_a_path_of_more_folders_than_descriptors_is_kept(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/file").write_text("content")
    above = b"/".join([b"d"] * 200)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    mirror, folder = os.open(tmp_path, os.O_RDONLY), os.open(tmp_path / "folder", os.O_RDONLY)
    resource.setrlimit(resource.RLIMIT_NOFILE, (folder + 16, limits[1]))
    try:
        moved, error = VersionsFolder(mirror, None).retire([b"file"], folder, above, b"now")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        os.close(mirror)
        os.close(folder)

    assert (moved, error) == ({b"file": b".truecopy/versions/now/" + above + b"/file"}, None)
    assert (tmp_path / os.fsdecode(moved[b"file"])).read_text() == "content"
