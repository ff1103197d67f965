"""Mount the file system in memory of the user cases (`tests/cases/memfs.py`), for a while."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MEMFS = Path(__file__).parent / "cases" / "memfs.py"
_SERVES = '\nif __name__ == "__main__":\n'
"""Where memfs begins to serve."""
_OVERRIDE = """
_answer_to = answer_to


def answer_to(files, kind, inode, data):
    found = answer(files, kind, files.nodes.get(inode, files.nodes[1]), data)
    return _answer_to(files, kind, inode, data) if found is None else (0, found)
"""


def variant(place: Path, code: str) -> Path:
    """Write a server with a nature of the test's own: `code` defines `answer(files, kind, node, data)`.

    Its answer may be None, for the usual one.
    """
    text = MEMFS.read_text()
    assert text.count(_SERVES) == 1
    place.write_text(text.replace(_SERVES, f"{code}{_OVERRIDE}{_SERVES}"))
    return place


@contextmanager
def memory_disk(at: Path, *natures: str, server: Path = MEMFS) -> Iterator[Path]:
    """Mount one of such natures; it is empty, and gone with its mount."""
    at.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, str(server), str(at), *natures], check=True)
    try:
        yield at
    finally:
        subprocess.run(["umount", "--lazy", str(at)], check=False)
