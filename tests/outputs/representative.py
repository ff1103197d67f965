"""One or more events of every kind, with whatever names, texts and numbers may come."""

import os
from typing import Any

from job.core.counts import Tally
from job.core.entry import Kind
from job.core.outcome import BrakeReason, Drift, Failure, Refusal, Result, Skip
from job.events.base import Event
from job.events.brake import BrakeHeld, BrakeReleased
from job.events.pair import (
    BatchCommitted,
    DriftFound,
    FileCopied,
    FileFailed,
    FileSkipped,
    FileUpdated,
    FoldersUnchanged,
    IndexRebuilt,
    MetadataNotKept,
    PairBusy,
    PairFailed,
    PairFinished,
    PairRefused,
    PairStarted,
    Progressed,
    ReplacedByFolder,
)
from job.events.service import (
    ConfigRejected,
    ConfigReloaded,
    CycleCrashed,
    CycleFinished,
    CycleStarted,
    NextCycleDue,
    OutputFailed,
    RunDisabled,
    ServiceStarted,
    ServiceStopped,
    ServiceWaited,
)

NAMES = (
    b"music/a.flac",
    b"",
    "münchen/日本.txt".encode(),
    b"latin-\xe9/\xff\xfe",
    b"utf-8 \xc3\xa9 and latin \xe9",
    b'x"}\n{"level": "info", "event": "file_copied"}\x1b[31m',
    "right to left \u202e and no-break\u00a0space".encode(),
    "astral 😀 \U000e0041".encode(),
    b"surrogate \xed\xa0\x80",
    b"back\\slash \\n {braces} %s {path}",
    b"tab\tdel\x7fnul\x01",
)
TEXTS = (
    "new",
    "[Errno 28] No space left on device: 'a\nb'",
    os.fsdecode(b"\xff/latin-\xe9"),
    "lone \ud800 surrogate",
    "{error} {path} \u2028 \U0001f4a9 é",
)
SECONDS = (float("nan"), 75.5, 1e-7, 3.0e5, float("-inf"), 0.25, 0.0, 12.3456789, 59.95, 1e16, -0.0000004)
CYCLE = "20261123T062325Z-abc123"
FULL = Tally(
    copied=2,
    updated=1,
    bytes_copied=2_500_000,
    folders=4,
    skipped_by={Skip.UNCHANGED: 7, Skip.VANISHED: 1},
    failed_by={Failure.IO_ERROR: 1},
    drift_by={Drift.CONTENT: 3},
)


def _entries(path: bytes, text: str, seconds: float) -> list[Event]:
    pair = {"cycle_id": CYCLE, "pair": text}
    return [
        FileCopied(
            **pair,
            path=path,
            kind=Kind.FILE,
            bytes=1 << 40,
            checksum="sha256:" + "00ff" * 16,
            permissions="644",
            reason=text,
            duration_seconds=seconds,
        ),
        FileUpdated(**pair, path=path, kind=Kind.SYMLINK, permissions="2755", reason=text),
        FileSkipped(**pair, path=path, reason=Skip.SPECIAL_FILE),
        FileFailed(**pair, path=path, kind=Kind.FOLDER, reason=Failure.NO_SPACE, error=text),
        DriftFound(**pair, path=path, kind=Drift.METADATA),
        ReplacedByFolder(**pair, path=path, kind=Kind.SPECIAL),
        MetadataNotKept(**pair, what="owner", path=path, error=text),
    ]


def _others(text: str, seconds: float) -> list[Event]:
    pair: dict[str, Any] = {"cycle_id": CYCLE, "pair": "music"}
    return [
        ServiceStarted(version="1.2.3", config=text, pairs=2, address="127.0.0.1:9090", metrics="served"),
        ServiceStopped(reason="SIGTERM"),
        RunDisabled(config=text, run_enabled="n"),
        ConfigReloaded(config="c.json", pairs=("a", text)),
        ConfigRejected(config="c.json", error=text, faults=()),
        NextCycleDue(due_timestamp_seconds=1_790_000_000.123456789, wait_seconds=seconds),
        ServiceWaited(),
        CycleCrashed(error=text, traceback=("Traceback:", "  File 'x'", *text.splitlines())),
        OutputFailed(output="stdout", error=text),
        CycleStarted(cycle_id=CYCLE, pairs=("music", text)),
        CycleFinished(cycle_id=CYCLE, result=Result.PARTIAL, tally=FULL, duration_seconds=seconds),
        PairStarted(**pair, source=text, mirror="/m", audit=True),
        PairRefused(**pair, reason=Refusal.OVERLAP, error=text, hint=""),
        BrakeHeld(
            **pair,
            reason=BrakeReason.SHARE,
            files=612,
            known=1000,
            exempt=3,
            examples=("a", text),
            plan="0" * 32,
            tripped=True,
            error=text,
            hint="Look.",
        ),
        BrakeReleased(**pair, reason=text),
        PairBusy(**pair, error=text, hint="Wait."),
        PairFailed(**pair, error=text, hint=text),
        PairFinished(
            **pair, result=Result.SUCCESS, tally=Tally(), duration_seconds=seconds, finished_timestamp_seconds=1.5
        ),
        IndexRebuilt(**pair, reason=text),
        FoldersUnchanged(**pair, folders=3, entries=0),
        BatchCommitted(**pair, tally=FULL),
        Progressed(**pair, phase="scan", entries=5),
    ]


def events() -> list[Event]:
    """Give them all, in the same order every time."""
    told: list[Event] = []
    for number, (path, seconds) in enumerate(zip(NAMES, SECONDS, strict=True)):
        told += _entries(path, TEXTS[number % len(TEXTS)], seconds)
    for text, seconds in zip(TEXTS, SECONDS, strict=False):
        told += _others(text, seconds)
    return told


def moments() -> list[float]:
    """Give a time for each of the events, in seconds since the epoch."""
    odd = (0.0, 0.9999996, 1_790_000_000.125, 1_790_000_000.9999999, 4_102_444_799.9995, 1_790_000_001.0009995)
    return [odd[number % len(odd)] + number // len(odd) for number in range(len(events()))]
