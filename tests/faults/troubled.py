"""A file system in memory that can be told, while it is mounted, to fail, to hang, or to give too little; a program.

    python -m tests.faults.troubled FOLDER CONTROL

CONTROL is a file of JSON that is read anew with every call:

    {"fail": {"read": {"folder/": "EIO"}}, "hang": {"read": "name"}, "most": 100, "surplus": {"name": -3}}

Calls fail and hang for paths in which the given text is found. What hangs keeps its caller in the kernel, where not
even a kill reaches it. `most` bytes are given by one read; of a file with a `surplus` more, or fewer, bytes can be read
than its size says.
"""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.faults.tampering import PATIENCE
from tests.fidelity.nature import Nature
from tests.fidelity.storage import Storage

ROOT = Path(__file__).resolve().parents[2]
NEEDS = (pytest.mark.needs_root, pytest.mark.needs_tool("fusermount3"))
_CALLS = ("getattr", "open", "read", "readdir", "create", "write", "fsync", "flush", "mkdir", "rename", "utimens")


class Troubled(Storage):
    """The operations that `mfusepy` calls, each with its trouble before it."""

    def __init__(self, control: str) -> None:
        super().__init__(Nature())
        self._control = control
        for call in _CALLS:
            setattr(self, call, self._before(call, getattr(self, call)))

    def _before(self, call: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def answer(path: str, *others: Any) -> Any:
            while (text := self._told("hang", {}).get(call)) and text in path:
                time.sleep(0.01)
            for text, fault in self._told("fail", {}).get(call, {}).items():
                if text in path:
                    raise OSError(getattr(errno, fault), path)
            return real(path, *others)

        return answer

    def _told(self, word: str, default: Any) -> Any:
        with open(self._control, encoding="utf-8") as file:
            return json.load(file).get(word, default)

    def fsync(self, _path: str, _data: int, _handle: int) -> int:
        return 0

    def flush(self, _path: str, _handle: int) -> int:
        return 0

    def read(self, path: str, size: int, offset: int, _: int) -> bytes:
        content = bytes(self._at(path).data)
        surplus = self._told("surplus", {}).get(path.rpartition("/")[2], 0)
        content = content[:surplus] if surplus < 0 else content + bytes(surplus)
        return content[offset : offset + min(size, self._told("most", size))]


@dataclass
class Server:
    """A mounted one."""

    process: "subprocess.Popen[bytes]"
    control: Path

    def tell(self, **troubles: object) -> None:
        """Have other troubles from the next call on; none for none."""
        fresh = self.control.with_suffix(".fresh")
        fresh.write_text(json.dumps(troubles))
        fresh.replace(self.control)

    def hold(self) -> None:
        """Stop the server in mid-air, as a machine does that is suspended."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it go on."""
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Let the server die; its mount stays, and answers nothing any more."""
        self.process.kill()
        self.process.wait()


@contextmanager
def troubled(at: Path) -> Iterator[Server]:
    """Mount one, empty and without a trouble, for a while."""
    at.mkdir(parents=True, exist_ok=True)
    control = at.with_name(f"{at.name}.control")
    control.write_text("{}")
    command = [sys.executable, "-m", "tests.faults.troubled", str(at), str(control)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + PATIENCE
            while not os.path.ismount(at):
                assert process.poll() is None, process.returncode
                assert time.monotonic() < deadline
                time.sleep(0.01)
            yield Server(process, control)
        finally:
            process.kill()  # first: nothing can be unmounted that waits for an answer
            process.wait()
            subprocess.run(["umount", "--lazy", str(at)], check=False, capture_output=True)


def main(folder: str, control: str) -> None:
    """Mount and serve. Nothing is cached, so that every call of a client gets here."""
    from mfusepy import FUSE  # noqa: PLC0415  # who only mounts it need not have libfuse

    with suppress(RuntimeError):
        FUSE(
            Troubled(control),
            folder,
            foreground=True,
            nothreads=False,  # who hangs must not keep the others
            use_ino=True,
            direct_io=True,
            entry_timeout=0,
            negative_timeout=0,
            attr_timeout=0,
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
