"""Clone a whole file by reflink: the file system shares the blocks until one of both is written to."""

import errno
import fcntl

_FICLONE = 0x40049409  # linux/fs.h: _IOW(0x94, 9, int)
_NOT_HERE = {errno.EOPNOTSUPP, errno.EXDEV, errno.ENOTTY, errno.ENOSYS}
_NOT_THIS = {errno.EINVAL, errno.EPERM, errno.ETXTBSY}


class Cloner:
    """Clones for one pair, and stops trying once it is known that it cannot be done there."""

    def __init__(self) -> None:
        self._wanted = True

    def clone(self, source: int, written: int) -> bool:
        """Give the empty open file `written` the content of `source`; False if it has to be copied instead.

        Raises `OSError` for what would keep a copy from being written, too.
        """
        if not self._wanted:
            return False
        try:
            fcntl.ioctl(written, _FICLONE, source)
        except OSError as error:
            if error.errno in _NOT_HERE:
                self._wanted = False
            elif error.errno not in _NOT_THIS:
                raise
            return False
        return True
