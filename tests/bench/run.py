"""The door of `make bench`: `python tests/bench/run.py`; `--help` and README.md say what can be asked for."""

import importlib
import os
import sys
from pathlib import Path

if __name__ == "__main__":
    # A script finds what lies beside it; the rest of the bench and the job are found from the repository's root.
    sys.path[0] = os.fspath(Path(__file__).resolve().parents[2])
    sys.exit(importlib.import_module("tests.bench.command").main())
