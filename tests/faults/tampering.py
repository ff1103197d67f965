"""Break system calls by strace, mount file systems that end, forge what SQLite trusts."""

import os
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def injected(call: str, fault: str, *, log: Path, paths: tuple[Path, ...] = ()) -> list[str]:
    """Give the command prefix that injects `fault` into a system call, or any of several, told by commas.

    Only calls on exactly these `paths`, as a path, an open file or a folder that the call is relative to, count, and
    each process has a count of its own.
    """
    chosen = [argument for path in paths for argument in ("-P", str(path))]
    return ["strace", "-f", "-qq", "-o", str(log), "-e", f"trace={call}", "-e", f"inject={call}:{fault}", *chosen]


def traced(call: str, *, log: Path) -> list[str]:
    """Give the command prefix that records a system call with the paths behind its descriptors."""
    return ["strace", "-f", "-qq", "-y", "-o", str(log), "-e", f"trace={call}"]


def ordinal(log: Path, call: str, text: str) -> int:
    """Give the place, from 1, of the first recorded call that has `text` in its line."""
    calls = [line for line in log.read_text(errors="replace").splitlines() if f" {call}(" in line]
    return next(number for number, line in enumerate(calls, start=1) if text in line)


@contextmanager
def mounted(what: str, at: Path, *options: str) -> Iterator[Path]:
    """Mount something for a while."""
    at.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", *options, what, str(at)], check=True, capture_output=True)
    try:
        yield at
    finally:
        subprocess.run(["umount", "--lazy", str(at)], check=True, capture_output=True)


def remount(at: Path, options: str) -> None:
    """Change a mounted file system's options."""
    subprocess.run(["mount", "-o", f"remount,{options}", str(at)], check=True, capture_output=True)


def journal_that_names(victim: Path, database: Path) -> bytes:
    """Give a journal that SQLite believes was cut off, and that has it delete a file of our choice."""
    magic, page = bytes.fromhex("d9d505f920a163d7"), 4096
    header = magic + struct.pack(">5I", 0, 0, database.stat().st_size // page, 512, page)
    name = os.fsencode(victim)
    number = 0x40000000 // page + 1
    end = struct.pack(">I", number) + name + struct.pack(">II", len(name), sum(name)) + magic
    return header.ljust(512, b"\0") + end
