"""Mount file systems that are not Linux's own, writable, for a while: exFAT, FAT, NTFS, and one that we make up."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.faults.rig import ROOT
from tests.fidelity.nature import Nature

_PATIENCE = 20.0

Mounting = Callable[[Path, Path], AbstractContextManager[Path]]
"""Takes a folder to mount in, and an image that is made if it is not there yet."""

EXFAT = (pytest.mark.needs_root, pytest.mark.needs_tool("mkfs.exfat"), pytest.mark.needs_tool("mount.exfat-fuse"))
FAT = (pytest.mark.needs_root, pytest.mark.needs_tool("mkfs.vfat"), pytest.mark.needs_tool("fusefat"))
NTFS = (pytest.mark.needs_root, pytest.mark.needs_tool("mkfs.ntfs"), pytest.mark.needs_tool("ntfs-3g"))
NAS = (pytest.mark.needs_root, pytest.mark.needs_tool("fusermount3"))


@contextmanager
def exfat(at: Path, image: Path) -> Iterator[Path]:
    """Mount exFAT, as portable disks have it. It wants a loop device."""
    made = _image(image, "256M")
    device = _run("losetup", "--find", "--show", str(image)).strip()
    try:
        if made:
            _run("mkfs.exfat", device)
        with _served(["mount.exfat-fuse", "-d", device, str(at)], at):
            yield at
    finally:
        _run("losetup", "--detach", device)


@contextmanager
def fat(at: Path, image: Path) -> Iterator[Path]:
    """Mount FAT32. Its driver is a poor one: it dies when the root's times are set, and a rename moves a file's."""
    if _image(image, "256M"):
        _run("mkfs.vfat", "-F", "32", str(image))
    with _served(["fusefat", "-f", "-s", "-o", "rw+", str(image), str(at)], at):
        yield at


@contextmanager
def ntfs(at: Path, image: Path) -> Iterator[Path]:
    """Mount NTFS, as disks from Windows have it, in the way that `mount` does it here."""
    if _image(image, "256M"):
        _run("mkfs.ntfs", "--force", "--fast", "--quiet", str(image))
    with _served(["ntfs-3g", "-o", "no_detach", str(image), str(at)], at):
        yield at


@contextmanager
def nas(at: Path, nature: Nature) -> Iterator[Path]:
    """Mount storage of such a nature, empty."""
    with _served([sys.executable, "-m", "tests.fidelity.nas", str(at), json.dumps(asdict(nature))], at):
        yield at


@contextmanager
def _served(command: list[str], at: Path) -> Iterator[None]:
    at.mkdir(parents=True, exist_ok=True)
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            _await(server, at)
            yield
        finally:
            # Whatever became of the server: one that died leaves a mount behind that answers nothing.
            _unmount(at)
            with suppress(subprocess.TimeoutExpired):
                server.wait(_PATIENCE)
            if server.poll() is None:
                _unmount(at, "--lazy")  # somebody still has a file open there
                server.kill()


def _unmount(at: Path, *options: str) -> None:
    subprocess.run(["umount", *options, str(at)], check=False, capture_output=True)


def _await(server: "subprocess.Popen[bytes]", at: Path) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not at.is_mount():
        assert server.poll() is None, (server.args, server.returncode)
        assert time.monotonic() < deadline, server.args
        time.sleep(0.01)


def _image(image: Path, size: str) -> bool:
    if image.exists():
        return False
    _run("truncate", f"--size={size}", str(image))
    return True


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
