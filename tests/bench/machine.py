"""What the figures were measured on."""

import os
import platform
import re
from pathlib import Path

KIB = 1024


def describe() -> dict[str, object]:
    """Name processor, cores, memory, kernel and Python, and how busy the machine is before anything starts."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": _meminfo()["MemTotal"],
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_average": round(os.getloadavg()[0], 2),
    }


def memory_available() -> int:
    """Tell how many bytes of memory can be used without swapping."""
    return _meminfo()["MemAvailable"]


def file_system(path: Path) -> str:
    """Name the type of the file system that a path lies on, such as `ext4` or `tmpfs`."""
    path = path.resolve()
    best, name = Path(), "unknown"
    # The last of several mounts on one folder is the one that is seen, hence the equality.
    for line in Path("/proc/self/mounts").read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        _, mount, kind, *_ = line.split()
        folder = Path(re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), mount))
        if path.is_relative_to(folder) and len(folder.parts) >= len(best.parts):
            best, name = folder, kind
    return name


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _meminfo() -> dict[str, int]:
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    return {line.partition(":")[0]: int(line.split()[1]) * KIB for line in lines}
