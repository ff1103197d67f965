"""Break system calls by strace, mount file systems that end, forge what SQLite trusts."""

import os
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PATIENCE = 60.0
"""Seconds until what passes by itself is not waited for any more."""
NO_LOOP_DEVICE = "loop device"
"""What mount says where there is none free, or somebody else was quicker."""


def injected(call: str, fault: str, *, log: Path, paths: tuple[Path, ...] = ()) -> list[str]:
    """Give the command prefix that injects `fault` into a system call, or any of several, told by commas.

    Only calls on exactly these `paths`, as a path, an open file or a folder that the call is relative to, count, and
    each process has a count of its own.
    """
    chosen = [argument for path in paths for argument in ("-P", str(path))]
    return ["strace", "-f", "-qq", "-o", str(log), "-e", f"trace={call}", "-e", f"inject={call}:{fault}", *chosen]


def in_state(state: Path, *names: str) -> tuple[Path, ...]:
    """Give the paths by which files in a state folder are met: their own, and those by which SQLite opens them."""
    by_descriptor = [Path(f"/proc/self/fd/{number}") / name for number in range(3, 32) for name in names]
    return (*(state / name for name in names), *by_descriptor)


def traced(call: str, *, log: Path) -> list[str]:
    """Give the command prefix that records a system call with the paths behind its descriptors."""
    return ["strace", "-f", "-qq", "-y", "-o", str(log), "-e", f"trace={call}"]


def ordinal(log: Path, call: str, text: str) -> int:
    """Give the place, from 1, of the first recorded call that has `text` in its line."""
    calls = [line for line in log.read_text(errors="replace").splitlines() if f" {call}(" in line]
    return next(number for number, line in enumerate(calls, start=1) if text in line)


def run(*command: str, passing: str | None = None) -> str:
    """Run a program to its end; again, as long as it fails with such words, of what passes by itself."""
    deadline = time.monotonic() + PATIENCE
    while (done := subprocess.run(command, capture_output=True, text=True, check=False)).returncode:
        passes = passing is not None and passing in done.stderr
        assert passes, (command, done.stderr)
        assert time.monotonic() < deadline, (command, done.stderr)
        time.sleep(0.1)
    return done.stdout


@contextmanager
def mounted(what: str, at: Path, *options: str) -> Iterator[Path]:
    """Mount something for a while."""
    at.mkdir(parents=True, exist_ok=True)
    run("mount", *options, what, str(at), passing=NO_LOOP_DEVICE)
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
