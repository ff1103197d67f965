"""Syncing, and hearing about it when it fails."""

import os
from pathlib import Path

import pytest

from job.fs.own_files import fsync_folder, syncfs, syncfs_is_reliable


def test_the_file_system_of_an_open_folder_is_synced(folder: int, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")

    syncfs(folder)
    fsync_folder(folder)


def test_a_sync_that_fails_is_an_error(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    os.close(descriptor)

    with pytest.raises(OSError, match="Bad file descriptor"):
        syncfs(descriptor)


def test_a_folder_that_cannot_be_synced_is_an_error_unless_no_folder_can() -> None:
    reading, writing = os.pipe()  # says EINVAL, as file systems do that cannot sync folders
    fsync_folder(reading)
    os.close(reading)
    os.close(writing)

    with pytest.raises(OSError, match="Bad file descriptor"):
        fsync_folder(reading)


def test_an_ordinary_disk_knows_what_syncfs_means(folder: int) -> None:
    assert syncfs_is_reliable(folder)
