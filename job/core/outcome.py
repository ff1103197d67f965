"""The closed sets of results of an entry, a pair and a cycle.

They are label values in metrics and field values in logs, so they are a public interface.
"""

import errno
from enum import StrEnum

from job.errors import Exit


class Failure(StrEnum):
    """Why an entry failed: the label `reason` of `truecopy_files_failed_total`."""

    PERMISSION = "permission"
    CHANGED_DURING_COPY = "changed_during_copy"
    NO_SPACE = "no_space"
    READ_ONLY = "read_only"
    IO_ERROR = "io_error"
    NAME = "name"
    TOO_LARGE = "too_large"
    VERIFY_MISMATCH = "verify_mismatch"
    RESERVED_NAME = "reserved_name"
    TYPE_CONFLICT = "type_conflict"
    SYNC = "sync"
    WORKER_LOST = "worker_lost"
    MOUNT_MISSING = "mount_missing"
    OTHER = "other"


class Skip(StrEnum):
    """Why an entry was not copied and did not fail: the label `reason` of `truecopy_files_skipped_total`."""

    UNCHANGED = "unchanged"
    SPECIAL_FILE = "special_file"
    VANISHED = "vanished"
    UNSUPPORTED = "unsupported"
    MOUNT = "mount"
    HELD = "held"


class BrakeReason(StrEnum):
    """Why the brake holds what would replace or retire contents: the label `reason` of `truecopy_hold_active`."""

    SHARE = "share"
    """Too many files would be replaced or retired."""
    EMPTIED = "emptied"
    """Too many files became empty or all zeros."""
    CANARY = "canary"
    """A file that nobody changes was changed."""


class Drift(StrEnum):
    """How a mirror entry differs from its index record: the label `kind` of `truecopy_drift_found_total`."""

    MISSING = "missing"
    REPLACED = "replaced"
    CONTENT = "content"
    METADATA = "metadata"


class UnloggedReason(StrEnum):
    """Why entries have no log lines of their own."""

    FOLDER = "folder"
    """The folder has too many."""
    CYCLE = "cycle"
    """The pair has too many in this cycle."""
    AS_BEFORE = "as_before"
    """They failed in the same way in the cycle before, and were logged then."""


class Refusal(StrEnum):
    """Why the preflight refused a pair: the label `reason` of `truecopy_pairs_refused_total`."""

    SOURCE_MISSING = "source_missing"
    SOURCE_NOT_A_FOLDER = "source_not_a_folder"
    SOURCE_UNREADABLE = "source_unreadable"
    SOURCE_EMPTY = "source_empty"
    SOURCE_NEVER_HAD_ENTRY = "source_never_had_entry"
    SOURCE_INCOMPLETE = "source_incomplete"
    MIRROR_MISSING = "mirror_missing"
    MIRROR_NOT_MOUNTED = "mirror_not_mounted"
    MIRROR_NOT_A_FOLDER = "mirror_not_a_folder"
    MIRROR_NOT_WRITABLE = "mirror_not_writable"
    MIRROR_READ_ONLY = "mirror_read_only"
    MIRROR_UNKNOWN = "mirror_unknown"
    MIRROR_OTHER = "mirror_other"
    UNTRUSTED_LINK = "untrusted_link"
    OVERLAP = "overlap"
    STATE_UNUSABLE = "state_unusable"
    SANDBOX_UNAVAILABLE = "sandbox_unavailable"


RENAMED: dict[str, str] = {
    "not_held": Skip.UNSUPPORTED,
    "no_wall": Refusal.SANDBOX_UNAVAILABLE,
    "mirror_other_source": Refusal.MIRROR_OTHER,
}
"""Reasons by the names that earlier versions wrote to a history; they are renamed when it is read."""


class Result(StrEnum):
    """How a pair's or a whole cycle ended: the label `result` of `truecopy_cycles_total`."""

    SUCCESS = "success"
    PARTIAL = "partial"
    REFUSED = "refused"
    HELD = "held"
    BUSY = "busy"
    STOPPED = "stopped"
    FAILED = "failed"

    @property
    def exit(self) -> Exit:
        """The exit code of `run --once` for this result (the caller handles a stop by SIGINT)."""
        return _EXITS[self]


_EXITS = {
    Result.SUCCESS: Exit.OK,
    Result.PARTIAL: Exit.PARTIAL,
    Result.REFUSED: Exit.REFUSED,
    Result.HELD: Exit.REFUSED,
    Result.BUSY: Exit.BUSY,
    Result.STOPPED: Exit.TERMINATED,
    Result.FAILED: Exit.FAILED,
}

_WORST_FIRST = (Result.STOPPED, Result.FAILED, Result.REFUSED, Result.HELD, Result.PARTIAL, Result.BUSY)


def worst(results: list[Result]) -> Result:
    """Return the result of a cycle: the most severe result of its pairs."""
    return next((result for result in _WORST_FIRST if result in results), Result.SUCCESS)


_BY_ERRNO = {
    errno.EACCES: Failure.PERMISSION,
    errno.EPERM: Failure.PERMISSION,
    errno.ENOSPC: Failure.NO_SPACE,
    errno.EDQUOT: Failure.NO_SPACE,
    errno.EROFS: Failure.READ_ONLY,
    errno.EIO: Failure.IO_ERROR,
    # Errors of network mounts whose server is gone.
    errno.ESTALE: Failure.IO_ERROR,
    errno.ENOTCONN: Failure.IO_ERROR,
    errno.ECONNABORTED: Failure.IO_ERROR,
    errno.EHOSTDOWN: Failure.IO_ERROR,
    errno.ETIMEDOUT: Failure.IO_ERROR,
    errno.ENODEV: Failure.IO_ERROR,
    errno.ENXIO: Failure.IO_ERROR,
    errno.ENAMETOOLONG: Failure.NAME,
    errno.EILSEQ: Failure.NAME,
    errno.EINVAL: Failure.NAME,
    errno.EFBIG: Failure.TOO_LARGE,
    errno.EISDIR: Failure.TYPE_CONFLICT,
    errno.ENOTDIR: Failure.TYPE_CONFLICT,
    errno.ENOTEMPTY: Failure.TYPE_CONFLICT,
    errno.EEXIST: Failure.TYPE_CONFLICT,
    errno.ELOOP: Failure.TYPE_CONFLICT,
}


def failure_of(error: OSError) -> Failure:
    """Classify an operating system error; the attribute `failure` of our own errors has priority."""
    own = getattr(error, "failure", None)
    return own if isinstance(own, Failure) else _BY_ERRNO.get(error.errno or 0, Failure.OTHER)


_IN_WORDS = {
    errno.EIO: "the disk or server failed, see the kernel's log",
    errno.ESTALE: "the server does not know it any more, mount it again",
    errno.ENOTCONN: "the program behind the mount ended, mount it again",
    errno.ENODEV: "the device is gone",
    errno.ENXIO: "the device is gone",
    errno.EACCES: "the user that runs Truecopy lacks the right to it",
    errno.EPERM: "the user that runs Truecopy lacks the right to it, or it is protected",
    errno.ELOOP: "a symbolic link stands in its place",
}


def reason_text(error: Exception) -> str:
    """Return the text of an error without number and path, with an explanation for some errno values."""
    if not isinstance(error, OSError) or error.strerror is None:
        return str(error) or type(error).__name__
    meaning = _IN_WORDS.get(error.errno or 0)
    # Texts of the system begin with a capital letter; our own need no explanation.
    return f"{error.strerror} ({meaning})" if meaning and error.strerror[:1].isupper() else error.strerror
