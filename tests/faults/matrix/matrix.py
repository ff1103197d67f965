"""All rows in their order, and what each takes to be run."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from tests.faults.matrix import crash, entries, fidelity, moving, place, silent, storage
from tests.faults.matrix.finding import Finding
from tests.faults.matrix.row import Row
from tests.faults.matrix.scene import Scene
from tests.faults.matrix.tools import TOOLS, Tool

_FAMILIES = (crash, storage, silent, place, entries, moving, fidelity)
PACKAGES = {
    "faketime": "faketime",
    "losetup": "mount",
    "mkfs.btrfs": "btrfs-progs",
    "mkfs.exfat": "exfatprogs",
    "mkfs.ext4": "e2fsprogs",
    "mkfs.xfs": "xfsprogs",
    "mount": "mount",
    "mount.exfat-fuse": "exfat-fuse",
    "nbdfuse": "libnbd-bin",
    "nbdkit": "nbdkit",
    "setpriv": "util-linux",
    "strace": "strace",
    "xfs_io": "xfsprogs",
}
"""Where programs come from, on Debian."""


def _place(row: Row) -> tuple[int, str]:
    digits = row.number.rstrip("ab")
    return int(digits), row.number[len(digits) :]


ROWS: tuple[Row, ...] = tuple(sorted((row for family in _FAMILIES for row in family.ROWS), key=_place))


def tools_of(row: Row, among: Iterable[Tool] = TOOLS) -> list[Tool]:
    """Give the tools that a row says something about."""
    return [tool for tool in among if row.only in ("", tool.name)]


def obstacles(rows: Iterable[Row], tools: Iterable[Tool]) -> list[str]:
    """Say what is missing here, a line each."""
    missing = {f"{tool.name}: {tool.missing}" for tool in tools if tool.missing}
    for name in {name for row in rows for name in row.needs}:
        if not shutil.which(name):
            missing.add(f"{name} is not on PATH (Debian package {PACKAGES[name]})")
    found = sorted(missing)
    return found if os.geteuid() == 0 else ["root is needed, for mounts and owners", *found]


def perform(row: Row, tool: Tool, base: Path) -> Finding:
    """Make one fault for one tool, in a folder of its own that is gone afterwards."""
    folder = base / f"{row.number}-{tool.name}"
    try:
        return row.act(Scene(folder, tool))
    finally:
        shutil.rmtree(folder)
