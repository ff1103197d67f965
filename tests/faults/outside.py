"""What lies outside of sources, mirrors, state and logs: it may be neither read nor changed, nor named anywhere."""

import os
import secrets
import socket
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.rig import Rig

KINDS = ("link to a file", "link to a folder", "dangling link", "fifo", "socket", "device", "folder", "full folder")
"""What somebody may plant at a name."""


@dataclass
class Outside:
    """A tree of somebody else, with a secret in it, and whatever is planted to lead there."""

    base: Path
    secret: str = field(default_factory=lambda: f"secret-{secrets.token_hex(16)}")
    inner: str = field(default_factory=lambda: f"inner-{secrets.token_hex(8)}")
    """A name that no link tells: it is known only to who went into the folder."""

    def __post_init__(self) -> None:
        """Make it, with nothing in it that a backup would have a reason to touch."""
        self.folder, self.file = self.base / "outside", self.base / "outside" / "file"
        below = self.folder / "below" / "sub"
        below.mkdir(parents=True)
        # Names that the trees under test have, too: what is followed finds something there.
        for name in ("file", "below/file", "below/sub/file", self.inner, f"below/{self.inner}"):
            (self.folder / name).write_text(self.secret)
            (self.folder / name).chmod(0o640)
        os.setxattr(self.file, "user.mine", b"untouched")
        if os.geteuid() == 0:
            os.chown(self.file, 4711, 4712)
        self.before = self._seen()

    def _seen(self) -> dict[str, tuple[object, ...]]:
        found: dict[str, tuple[object, ...]] = {}
        for path in [self.folder, *sorted(self.folder.rglob("*"))]:
            seen = path.lstat()
            # The ctime moves with everything else: mode, owner, times, attributes, names and content.
            kept = seen.st_ino, seen.st_mode, seen.st_uid, seen.st_gid, seen.st_nlink, seen.st_size, seen.st_ctime_ns
            found[str(path)] = (*kept, seen.st_mtime_ns, path.read_bytes() if stat.S_ISREG(seen.st_mode) else b"")
        return found

    def is_untouched(self) -> None:
        """Insist that nothing in there changed, came or went."""
        now = self._seen()
        moved = {path for path in now.keys() | self.before.keys() if now.get(path) != self.before.get(path)}
        assert not moved, [(path, self.before.get(path), now.get(path)) for path in moved]

    def is_told_nowhere(self, rig: Rig, *texts: str, places: Sequence[Path] = ()) -> None:
        """Insist that no byte of it arrived in mirror, state, logs, metrics or in any of these texts and places."""
        for needle in (self.secret, self.inner):
            for text in texts:
                assert needle not in text
            for top in (rig.mirror, rig.base / "state", *places):
                for path in top.rglob("*"):
                    assert needle not in path.name
                    if stat.S_ISREG(path.lstat().st_mode):
                        assert needle.encode() not in path.read_bytes(), path
            for path in (rig.log, rig.error_log, rig.textfile):
                assert path.is_symlink() or not path.is_file() or needle not in path.read_text()

    def plant(self, kind: str, at: Path) -> None:
        """Put something of a kind of `KINDS` at a name."""
        make: dict[str, Any] = {
            "link to a file": lambda: at.symlink_to(self.file),
            "link to a folder": lambda: at.symlink_to(self.folder),
            "dangling link": lambda: at.symlink_to(self.folder / "not there"),
            "fifo": lambda: os.mkfifo(at),
            "socket": lambda: _bind(at),
            "device": lambda: os.mknod(at, stat.S_IFCHR | 0o666, os.makedev(1, 5)),
            "folder": at.mkdir,
            "full folder": lambda: (at / "sub").mkdir(parents=True),
        }
        make[kind]()


def _bind(at: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        # The name of a socket may be 107 bytes long; that of a test's folder is longer.
        above = os.open(at.parent, os.O_PATH)
        try:
            server.bind(f"/proc/self/fd/{above}/{at.name}")
        finally:
            os.close(above)
