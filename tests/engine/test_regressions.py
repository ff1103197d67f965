"""Cycles in which a part fails, a clock goes wrong or the source moves on between two steps."""

import errno
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from job.app.pair_setup import open_context
from job.core.outcome import Failure, Result
from job.engine.copy import batch
from job.engine.cycle import CycleContext, OpenContext, run_cycle
from job.events.base import Event
from job.events.pair import FileUpdated, PairFailed, PairFinished, PairStarted, Progressed
from job.events.service import CycleFinished
from job.store.codec import decode_records
from job.store.index import Index
from tests.config.configs import to_settings
from tests.engine.interference import at, failing, interfered
from tests.engine.workshop import HOUR_NS, Told, Workshop, assert_mirrored, with_sync


def hashed(shop: Workshop) -> Counter[str]:
    """Run a cycle; count the files whose contents were compared, on whichever side."""
    compared: Counter[str] = Counter()
    told = shop.cycle(interfered(after_checksum=lambda path: compared.update([path.name])))
    assert told.result is Result.SUCCESS
    return compared


# Syncs that fail in mid-folder ----------------------------------------------------------------------------------------


def test_a_sync_that_fails_in_mid_folder_after_mended_metadata_alone_is_a_failure(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [shop.write(name) for name in "abc"]
    shop.cycle()
    for path in paths:
        path.chmod(0o600)
    monkeypatch.setattr(batch, "LONGEST_NS", 0)

    told = shop.cycle(with_sync(failing(1)))
    monkeypatch.undo()

    assert told.result is Result.PARTIAL
    assert told.failed == {b"": Failure.SYNC}
    assert told.committed == told.tally
    assert hashed(shop)["a"] > 0
    assert_mirrored(shop)


def test_files_placed_before_a_failed_second_sync_are_compared_by_the_next_cycle(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "MOST_FILES", 2)
    for name in "abcd":
        shop.write(name)

    told = shop.cycle(with_sync(failing(2)))

    assert told.failed == {b"a": Failure.SYNC, b"b": Failure.SYNC}
    assert set(told.copied) == {b"c", b"d"}
    assert hashed(shop).keys() >= {"a", "b"}
    assert_mirrored(shop)


def test_what_was_mended_beside_copies_that_a_failed_sync_voided_is_compared_again(shop: Workshop) -> None:
    path = shop.write("mended")
    shop.cycle()
    path.chmod(0o600)
    shop.write("new")

    told = shop.cycle(with_sync(failing(1)))

    assert told.failed == {b"new": Failure.SYNC}
    assert hashed(shop) == {"mended": 2}
    assert_mirrored(shop)


# Folders that move between the look and the act -----------------------------------------------------------------------


def after_the_look(shop: Workshop, action: Callable[[], object]) -> Told:
    """Run a cycle in which something happens between looking and acting."""
    told, waiting = Told(), [action]

    def emit(event: Event) -> None:
        told.hear(event)
        if isinstance(event, Progressed) and event.phase == "copy" and waiting:
            waiting.pop()()

    told.result = run_cycle(shop.config, CycleContext("cycle", emit, bool, shop.now_ns, open_context))
    assert not waiting
    return told


def test_a_folder_renamed_after_the_look_is_copied_whole_under_its_new_name(shop: Workshop) -> None:
    for name in ("old/file", "old/deeper/file", "other/file"):
        shop.write(name)

    told = after_the_look(shop, lambda: (shop.source / "old").rename(shop.source / "new"))

    assert told.result is Result.SUCCESS
    assert set(told.copied) == {b"new/file", b"new/deeper/file", b"other/file"}
    assert_mirrored(shop)
    assert told.committed == told.tally
    assert shop.cycle().tally.copied == 0


def test_a_folder_made_after_the_look_is_copied_once(shop: Workshop) -> None:
    shop.write("file")

    told = after_the_look(shop, lambda: shop.write("new/deeper/file"))

    assert set(told.copied) == {b"file", b"new/deeper/file"}
    assert told.tally.copied == 2
    assert told.tally.folders == 3
    assert_mirrored(shop)


# Mirrors, clocks and parts that fail ----------------------------------------------------------------------------------


def test_a_mirror_that_turns_read_only_tells_the_failures_met_before(shop: Workshop) -> None:
    shop.write(".truecopy-tmp-reserved")
    shop.write("copied, but never made safe")
    last = shop.write("last")

    def turn_read_only(_: Path) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    told = shop.cycle(interfered(before_copy=at(last, turn_read_only, last)))

    assert told.failed == {b".truecopy-tmp-reserved": Failure.RESERVED_NAME, b"last": Failure.READ_ONLY}
    assert told.tally.failed_by == {Failure.RESERVED_NAME: 1, Failure.READ_ONLY: 1}
    assert told.committed == told.tally
    assert told.copied == {}
    assert len(told.of(PairFailed)) == 1
    assert told.result is Result.FAILED
    assert shop.temps == []


def test_an_audit_said_to_have_been_in_the_future_does_not_put_the_next_one_off(shop: Workshop) -> None:
    shop.options["audit_interval"] = "1h"
    shop.write("file")
    shop.cycle()
    index = Index.open(str(shop.state))
    index.set_audited(shop.now_ns() / 1e9 + 10 * 365 * 86400)
    index.close()

    audits = [shop.cycle().of(PairStarted)[0].audit for _ in range(2)]
    shop.ahead_ns += 2 * HOUR_NS
    audits.append(shop.cycle().of(PairStarted)[0].audit)

    assert audits == [True, False, True]


def broken_once(error: Exception) -> OpenContext:
    """Lay out benches of which the first copies nothing, because of a bug."""
    left = [error]

    def fail(_: Path) -> None:
        if left:
            raise left.pop()

    return interfered(before_copy=fail)


def test_a_bug_that_one_pair_brings_out_does_not_keep_the_next_from_its_backup(shop: Workshop) -> None:
    for name in ("other-source", "other-mirror"):
        (shop.base / name).mkdir()
    (shop.base / "other-source/other").write_text("other")
    shop.write("file")
    other = {"name": "other", "source": f"{shop.base}/other-source", "dest": f"{shop.base}/other-mirror"}
    pairs = [{"name": "music", "source": str(shop.source), "dest": str(shop.mirror)}, other]
    told = Told()
    work = CycleContext("cycle", told.hear, bool, shop.now_ns, broken_once(RuntimeError("nobody expected this")))

    told.result = run_cycle(to_settings(pairs=pairs), work)

    [failed] = told.of(PairFailed)
    assert (failed.pair, failed.error) == ("music", "RuntimeError: nobody expected this")
    assert "Traceback" in failed.hint
    assert [each.result for each in told.of(PairFinished)] == [Result.FAILED, Result.SUCCESS]
    assert [each.result for each in told.of(CycleFinished)] == [told.result] == [Result.FAILED]
    assert (shop.base / "other-mirror/other").read_text() == "other"
    assert shop.temps == []
    assert shop.cycle().result is Result.SUCCESS


def test_another_checksum_algorithm_reaches_files_whose_mode_changed_at_the_same_time(shop: Workshop) -> None:
    paths = [shop.write(name) for name in ("changed", "kept")]
    shop.cycle()
    shop.options["checksum"] = "blake3"
    paths[0].chmod(0o600)

    told = shop.cycle()
    shop.cycle()

    assert told.tally.copied == 0
    assert [event.path for event in told.of(FileUpdated)] == [b"changed"]
    index = Index.open(str(shop.state))
    algorithms = {name: record.checksum.partition(":")[0] for name, record in decode_records(index.rows(b"")).items()}
    index.close()
    assert algorithms == {b"changed": "blake3", b"kept": "blake3"}
