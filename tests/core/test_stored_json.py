"""Whatever JSON stands in a file of ours, its reader takes it for damaged; nothing it says ends a command."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from job import health
from job.config import cache
from job.config.settings import Config
from job.core.counts import cycle_details_of
from job.core.file_systems import (
    Capabilities,
    FileSystemId,
    KnownMounts,
    decode_file_system_id,
    encode_file_system_id,
)
from job.core.mirror_identity import CycleMark
from job.events.text import format_timestamp, time_ago
from job.fs import mounts, probe
from job.locking import lock
from job.store import codec, temp_journal
from job.store.memory import Memory, read_pair
from job.store.pair_records import (
    IDENTITY_FILE,
    DamagedIdentityError,
    PairIdentity,
    ResolvedPath,
    read_identity,
    write_identity,
)
from tests.config.configs import to_settings
from tests.core import samples

DIGITS = "9" * 5000
HUGE = 10**400
HOSTILE: list[Any] = [
    HUGE,
    -(HUGE),
    -1,
    1e300,
    -1e300,
    float("inf"),
    float("nan"),
    "\ud800",
    "",
    [],
    {},
    ["a", "b"],
]
_values = st.recursive(
    st.sampled_from(HOSTILE) | st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def damaged(draw: st.DrawFn, document: Any) -> bytes:
    """Give a document of ours with a hostile value in some place, as text that may hold a number of any length."""
    text = json.dumps(_changed(draw, document))
    if draw(st.integers(0, 4)) == 0:
        text = text.replace("0", DIGITS, 1)
    return ("[" * 100_000 if draw(st.integers(0, 9)) == 0 else text).encode("ascii")


def _changed(draw: st.DrawFn, document: Any) -> Any:
    if isinstance(document, dict) and document and draw(st.integers(0, 4)):
        key = draw(st.sampled_from(sorted(document)))
        return {**document, key: _changed(draw, document[key])}
    if isinstance(document, list) and document and draw(st.integers(0, 4)):
        place = draw(st.integers(0, len(document) - 1))
        return [*document[:place], _changed(draw, document[place]), *document[place + 1 :]]
    return draw(_values)


def with_number(document: dict[str, Any]) -> bytes:
    return f'{{"x": {DIGITS}, {json.dumps(document)[1:]}'.encode("ascii")


IDENTITY = {
    "format": 1,
    "mirror_id": "0" * 32,
    "pair": "music",
    "source": "/s",
    "source_resolved": "/s",
    "mirror": "/m",
    "mirror_resolved": "/m",
    "made": "2026-01-01T00:00:00Z",
    "mirror_root": [10, 20],
}
"""As format 1 had it."""
MARKED = {
    **{key: value for key, value in IDENTITY.items() if not key.startswith("mirror_r") and key != "mirror"},
    "format": 2,
    "cycle": {"number": 3, "mark": "0123"},
}
BEAT = {
    "beat_timestamp_seconds": 10.0,
    "next_due_timestamp_seconds": 20.0,
    "cycle_started_timestamp_seconds": None,
    "stalled_timestamp_seconds": 0.0,
    "boot_id": mounts.boot_id(),
}
OWNER = {"host": "here", "boot_id": "0", "pid": 10, "pid_namespace": "pid:[0]", "since_timestamp_seconds": 10.0}
REMARKS = {
    "since": 10.0,
    "trouble": ["pair_refused", "overlap", "error", "hint"],
    "failing": [["path", "other", "error"]],
    "source": ["/s", "/s"],
}
MOUNTS = {"format": 1, "mounted": {"disk": "ext4"}, "missing": ["disk"], "left_out": [["proc", "kernel", "proc"]]}
RECORD = {"source": "/s", "since": "2026-01-01T00:00:00Z", "mirrors": ["0" * 32]}
MIRROR = {
    "mirror_id": "0" * 32,
    "source": "/s",
    "source_resolved": "/s",
    "adopted": "2026-01-01T00:00:00Z",
    "path": "/m",
    "file_system": ["proof", "place"],
    "root": [10, 20],
    "cycle": [3, "0123", "4567"],
    "last_success": 10.0,
}

calm = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=80)


def identity_of(content: bytes, folder: int, place: Path) -> PairIdentity | None:
    (place / IDENTITY_FILE).write_bytes(content)
    return read_identity(folder)


def test_an_identity_is_read_back_as_it_was_written(folder: int) -> None:
    mirror = PairIdentity("0" * 32, "music", ResolvedPath("/s\udcff", "/s"), "2026", CycleMark(2**64 - 1, "mark"))
    state = mirror._replace(cycle=None, mirror=ResolvedPath("/m", "/m\udcff"))

    for written in (mirror, state):
        write_identity(folder, written)
        assert read_identity(folder) == written


@calm
@given(damaged(IDENTITY) | damaged(MARKED))
@example(with_number(IDENTITY))
@example(json.dumps({**MARKED, "cycle": [1, "mark"]}).encode())
@example(json.dumps({**MARKED, "cycle": {"number": 1e999, "mark": "mark"}}).encode())
@example(json.dumps({**MARKED, "mirror_id": "../../etc"}).encode())
@example(json.dumps({**IDENTITY, "format": [1]}).encode())
@example(json.dumps({**IDENTITY, "source": 7}).encode())
@example(json.dumps({**IDENTITY, "source": "\ud800"}).encode())
def test_an_identity_can_be_used_or_is_damaged(folder: int, tmp_path: Path, content: bytes) -> None:
    try:
        found = identity_of(content, folder, tmp_path)
    except DamagedIdentityError as error:
        assert str(error) == "it is damaged" or str(error).startswith("its format is ")  # noqa: PT017
        return
    assert found is not None
    for path in (*found.source, *(found.mirror or ())):
        os.fsencode(path)
    assert len(found.mirror_id) == 32
    assert found.cycle is None or 0 <= found.cycle.number < 2**64


@pytest.mark.parametrize("cycle", [["a", "b"], {"number": -1, "mark": ""}, {"number": True, "mark": ""}, "ab", 7, None])
def test_an_odd_cycle_of_the_mirror_is_damage(folder: int, tmp_path: Path, cycle: object) -> None:
    with pytest.raises(DamagedIdentityError, match="it is damaged"):
        identity_of(json.dumps({**MARKED, "cycle": cycle}).encode(), folder, tmp_path)


@pytest.mark.parametrize("mirror_id", ["", "0" * 31, "0" * 33, "../" + "0" * 29, "G" * 32, "0" * 32 + "\n", "A" * 32])
def test_an_id_that_is_none_of_ours_is_damage(folder: int, tmp_path: Path, mirror_id: str) -> None:
    with pytest.raises(DamagedIdentityError, match="it is damaged"):
        identity_of(json.dumps({**MARKED, "mirror_id": mirror_id}).encode(), folder, tmp_path)


@calm
@given(damaged(BEAT))
@example(json.dumps({**BEAT, "beat_timestamp_seconds": HUGE}).encode())
@example(json.dumps({**BEAT, "next_due_timestamp_seconds": float("nan")}).encode())
@example(json.dumps({**BEAT, "next_due_timestamp_seconds": 1e300}).encode())
def test_a_sign_of_life_is_judged_or_none(content: bytes) -> None:
    beats = health._beats([content])

    assert health._judge_latest(beats, 1_000.0, "none")[1]
    for beat in beats:
        format_timestamp(beat.due)


@calm
@given(damaged(OWNER))
def test_an_owner_is_described_or_not_known(content: bytes) -> None:
    assert isinstance(lock.describe_holder(content), str)


@calm
@given(damaged(REMARKS))
@example(json.dumps({**REMARKS, "since": HUGE}).encode())
@example(json.dumps({**REMARKS, "since": float("nan")}).encode())
@example(json.dumps({**REMARKS, "failing": [[7, "other", "error"]]}).encode())
def test_remarks_in_a_history_are_shown_or_left_out(content: bytes) -> None:
    kept = _parsed(content)

    fields = cycle_details_of(kept if isinstance(kept, dict) else {})

    format_timestamp(fields.get("result_since_timestamp_seconds"))
    time_ago(1_000.0 - fields.get("result_since_timestamp_seconds", 0.0))


def _parsed(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return {}


@calm
@given(damaged(MOUNTS))
def test_known_mounts_are_known_or_not(folder: int, tmp_path: Path, content: bytes) -> None:
    (tmp_path / os.fsdecode(temp_journal.MOUNTS_FILE)).write_bytes(content)

    assert isinstance(temp_journal.load_known_mounts(folder), KnownMounts)


@calm
@given(damaged(RECORD))
def test_a_record_of_a_mirror_says_that_it_existed(folder: int, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "known.json").write_bytes(content)

    found = read_pair(folder)

    os.fsencode(found.since)
    assert all(len(each) == 32 for each in found.ids)


@calm
@given(damaged(MIRROR))
def test_what_is_remembered_of_a_mirror_is_believed_or_not(tmp_path: Path, content: bytes) -> None:
    (tmp_path / ".truecopy").mkdir(exist_ok=True)
    (tmp_path / ".truecopy" / f"{'0' * 32}.json").write_bytes(content)

    found = Memory(str(tmp_path)).mirror("0" * 32)

    if found is not None:
        os.fsencode(found.path)
        assert time_ago(1_000.0 - found.last_success)


@calm
@given(st.data())
def test_what_a_mirror_can_hold_is_known_or_found_out_anew(folder: int, tmp_path: Path, data: st.DataObject) -> None:
    kept = tmp_path / os.fsdecode(probe.FILE_NAME)
    kept.unlink(missing_ok=True)
    probe.save_capabilities(Capabilities(), folder, folder)
    kept.write_bytes(data.draw(damaged(json.loads(kept.read_bytes()))))

    found = probe.load_capabilities(folder, folder)

    if found is not None:
        assert found.lacks == [] or found.options_bytes


@pytest.mark.parametrize("grain", [0, -1, HUGE])
def test_times_that_no_file_system_keeps_are_found_out_anew(folder: int, tmp_path: Path, grain: int) -> None:
    probe.save_capabilities(Capabilities(mtime_grain_ns=2), folder, folder)
    kept = tmp_path / os.fsdecode(probe.FILE_NAME)
    document = json.loads(kept.read_bytes())
    document[""]["capabilities"]["mtime_grain_ns"] = grain
    kept.write_text(json.dumps(document))

    assert probe.load_capabilities(folder, folder) is None


@calm
@given(st.data())
def test_a_kept_configuration_is_believed_or_not(tmp_path: Path, data: st.DataObject) -> None:
    stored = cache.ConfigCache("/c.json", {"XDG_RUNTIME_DIR": str(tmp_path), "HOME": "/nonexistent"})
    stored.store("key", to_settings(source_dirs=["/s"], dest_dirs=["/d"]), 10.0)
    (kept,) = (tmp_path / "truecopy").iterdir()
    kept.write_bytes(data.draw(damaged(json.loads(kept.read_bytes()))))

    assert isinstance(stored.load("key"), Config | None)
    last = stored.load_last()
    if last is not None:
        assert time_ago(1_000.0 - last[1])


def test_a_kept_configuration_of_an_impossible_time_is_not_believed(tmp_path: Path) -> None:
    stored = cache.ConfigCache("/c.json", {"XDG_RUNTIME_DIR": str(tmp_path), "HOME": "/nonexistent"})
    stored.store("key", to_settings(source_dirs=["/s"], dest_dirs=["/d"]), 10.0)
    (kept,) = (tmp_path / "truecopy").iterdir()
    kept.write_text(json.dumps(json.loads(kept.read_bytes()) | {"kept_timestamp_seconds": HUGE}))

    assert stored.load_last() is None


READERS: list[tuple[str, Callable[[str], object]]] = [
    (
        encode_file_system_id(FileSystemId("proof", "place")),
        decode_file_system_id,
    ),
    (
        codec.encode_unsupported({b"name": codec.UnsupportedMetadata(1, 0, 0, 0, b"", 0, ((b"user.a", b"b"),))}),
        codec.decode_unsupported,
    ),
    (codec.encode_records([samples.a_record(samples.a_file(), samples.a_mirror())]), codec.decode_records),
]


@pytest.mark.parametrize(("written", "read"), READERS, ids=["file_systems", "unheld", "rows"])
@calm
@given(data=st.data())
def test_values_of_an_index_are_known_or_not(written: str, read: Callable[[str], object], data: st.DataObject) -> None:
    read(data.draw(damaged(json.loads(written))).decode("ascii"))
