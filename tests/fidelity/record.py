"""Measure the whole table of fidelity on this machine, and write it down.

Run by path, `python tests/fidelity/record.py`, as root and with every tool.
"""

import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.fidelity.table import COLUMNS, RESULTS


def main() -> None:
    """Write what is measured now, whatever was there."""
    found = {}
    for name, column in COLUMNS.items():
        with tempfile.TemporaryDirectory() as base:
            found[name] = column.measured(Path(base))
    RESULTS.write_text(json.dumps(found, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
