"""What a file system that is not Linux's own may be like, and what it holds."""

import errno
import unicodedata
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Nature:
    """What such a file system is like."""

    normalise: Literal["", "NFC", "NFD"] = ""
    """The form in which names are kept and compared; names that are not UTF-8 are refused then, as HFS+ did."""
    utf8_only: bool = False
    """Whether names that are not UTF-8 are refused, as where they are kept in UTF-16."""
    fold_case: bool = False
    """Whether names that differ in case only are one; the case given first is kept."""
    strip: str = ""
    """Characters left out at the end of names without a word, as servers for Windows do with dots and spaces."""
    forbidden: str = ""
    """Characters that no name may have (EINVAL)."""
    grain_ns: int = 1
    """To which modification times are cut."""
    largest: int = 64 << 20
    """Bytes that a file may have (EFBIG)."""
    ctime_is_mtime: bool = False
    refuse: dict[str, int] = field(default_factory=dict)
    """Error numbers for `symlink`, `link`, `mknod`, `chmod`, `chown`, `utimens`, `setxattr`, and so on."""
    ignore: tuple[str, ...] = ()
    """What is answered with success and not done, of the same."""

    def kept(self, name: str) -> str:
        """Give the form in which a name is kept. Raises `OSError`."""
        if set(name) & set(self.forbidden):
            raise OSError(errno.EINVAL, name)
        if self.normalise or self.utf8_only:
            try:
                name.encode()
            except UnicodeEncodeError:
                raise OSError(errno.EILSEQ, name) from None
        if self.normalise:
            name = unicodedata.normalize(self.normalise, name)
        return name.rstrip(self.strip) or name if self.strip else name

    def key(self, name: str) -> str:
        """Give what names that are one have in common."""
        kept = self.kept(name)
        if not self.fold_case:
            return kept
        folded = kept.casefold()
        return unicodedata.normalize(self.normalise, folded) if self.normalise else folded


@dataclass
class Node:
    """A file, folder, symlink or special file."""

    inode: int
    mode: int
    nlink: int = 1
    uid: int = 0
    gid: int = 0
    data: bytearray = field(default_factory=bytearray)
    target: str = ""
    device: int = 0
    children: dict[str, tuple[str, "Node"]] = field(default_factory=dict)
    """By what is compared: the name as it is kept, and what has it."""
    xattrs: dict[str, bytes] = field(default_factory=dict)
    atime_ns: int = 0
    mtime_ns: int = 0
    ctime_ns: int = 0


_REFUSED = ("link", "symlink", "mknod", "chmod", "chown", "setxattr")
NATURES = {
    "hfs": Nature(normalise="NFD", fold_case=True, grain_ns=10**9, forbidden=":"),
    "fat": Nature(
        utf8_only=True,
        fold_case=True,
        grain_ns=2 * 10**9,
        ctime_is_mtime=True,
        forbidden='"*:<>?\\|',
        refuse=dict.fromkeys(_REFUSED, errno.EPERM),
    ),
    "smb": Nature(fold_case=True, grain_ns=100, ctime_is_mtime=True, ignore=("chmod", "chown"), strip=". "),
    "unsupported": Nature(refuse=dict.fromkeys((*_REFUSED, "listxattr", "getxattr"), errno.EOPNOTSUPP)),
    "unimplemented": Nature(refuse=dict.fromkeys((*_REFUSED, "listxattr", "utimens"), errno.ENOSYS)),
}
