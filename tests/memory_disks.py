"""Mount the file system in memory of the user cases (`tests/cases/memfs.py`), for a while."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MEMFS = Path(__file__).parent / "cases" / "memfs.py"


@contextmanager
def memory_disk(at: Path, *natures: str, server: Path = MEMFS) -> Iterator[Path]:
    """Mount one of such natures; it is empty, and gone with its mount."""
    at.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, str(server), str(at), *natures], check=True)
    try:
        yield at
    finally:
        subprocess.run(["umount", "--lazy", str(at)], check=False)
