"""The door of `make faults`: `python tests/faults/matrix/run.py`; `--help` says what can be asked for."""

import importlib
import os
import sys
from pathlib import Path

if __name__ == "__main__":
    # A script finds what lies beside it; everything else is found from the repository's root.
    sys.path[0] = os.fspath(Path(__file__).resolve().parents[3])
    sys.exit(importlib.import_module("tests.faults.matrix.command").main())
