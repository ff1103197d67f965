"""Metrics: the whole catalogue at 0 from the start, counters that go on over restarts, nothing beside the catalogue."""

import re
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol, cast

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from job.core.counts import MOST_FAILING, NO_DETAILS, CycleDetails, FailedEntry, PairHistory, PairProblem, Tally
from job.core.entry import Kind
from job.core.metric_names import OUTPUTS
from job.core.outcome import Drift, Failure, Refusal, Result, Skip
from job.events.base import Event
from job.events.pair import (
    BatchCommitted,
    CycleResumed,
    CycleStalled,
    FileFailed,
    PairFailed,
    PairFinished,
    PairRefused,
)
from job.events.service import (
    ConfigRejected,
    ConfigReloaded,
    CycleCrashed,
    CycleFinished,
    CycleStarted,
    NextCycleDue,
    OutputFailed,
    PortNotChanged,
    PortNotOpened,
    RunDisabled,
)
from job.outputs.metrics import Metrics
from job.outputs.prometheus import Exposition
from job.store.history import History
from tests.repo.catalogue import EVERY_SERIES

TALLY = Tally(
    copied=2,
    updated=1,
    bytes_copied=300,
    folders=4,
    skipped_by={Skip.UNCHANGED: 7},
    failed_by={Failure.IO_ERROR: 1},
    drift_by={Drift.CONTENT: 1},
)


class PairMemory(Protocol):
    """What metrics call of a history."""

    def read(self) -> PairHistory: ...

    def add(
        self, finished: PairFinished, deltas: Mapping[tuple[str, str], int], cycle_details: CycleDetails = NO_DETAILS
    ) -> bool: ...

    def count(self, deltas: Mapping[tuple[str, str], int]) -> bool: ...


class Memory:
    """A history in memory; `mounted` tells whether it can be written."""

    def __init__(self) -> None:
        self.mounted = True
        self.kept = PairHistory()

    def read(self) -> PairHistory:
        return self.kept if self.mounted else PairHistory()

    def add(
        self, finished: PairFinished, deltas: Mapping[tuple[str, str], int], cycle_details: CycleDetails = NO_DETAILS
    ) -> bool:
        if not self.mounted:
            return False
        moment = finished.finished_timestamp_seconds
        success = moment if finished.result is Result.SUCCESS else self.kept.last_success_timestamp_seconds
        goes_on = self.kept.result is finished.result
        self.kept = PairHistory(
            counts=Counter(self.kept.counts) + Counter(deltas),
            result=finished.result,
            tally=finished.tally,
            duration_seconds=finished.duration_seconds,
            last_attempt_timestamp_seconds=moment,
            last_success_timestamp_seconds=success,
            trouble=cycle_details.trouble,
            failing=cycle_details.failing,
            result_since_timestamp_seconds=self.kept.result_since_timestamp_seconds if goes_on else moment,
        )
        return True

    def count(self, deltas: Mapping[tuple[str, str], int]) -> bool:
        if not self.mounted:
            return False
        self.kept = self.kept._replace(counts=Counter(self.kept.counts) + Counter(deltas))
        return True


def real_memory(folder: Path) -> PairMemory:
    return History(str(folder), failed=lambda output, error: pytest.fail(f"{output}: {error}"))


def fake_memory(folder: Path) -> PairMemory:
    assert folder.is_dir()
    return Memory()


@pytest.mark.parametrize("make", [real_memory, fake_memory])
def test_the_fake_history_does_what_the_real_one_does(make: Callable[[Path], PairMemory], tmp_path: Path) -> None:
    memory = make(tmp_path)
    assert memory.read() == PairHistory()

    assert memory.add(finished(Result.SUCCESS, at=10.0), {("files_copied_total", ""): 2})
    assert memory.add(finished(Result.PARTIAL, at=20.0, tally=TALLY), {("files_copied_total", ""): 1})

    assert memory.read() == PairHistory(
        counts={("files_copied_total", ""): 3},
        result=Result.PARTIAL,
        tally=TALLY,
        duration_seconds=2.5,
        last_attempt_timestamp_seconds=20.0,
        last_success_timestamp_seconds=10.0,
        result_since_timestamp_seconds=20.0,
    )


def make_metrics(memories: Mapping[str, PairMemory]) -> Metrics:
    history = cast("Callable[[str], History]", memories.__getitem__)
    metrics = Metrics(history=history, version="0.1.0", python="3.11.2")
    metrics.configure(pairs=list(memories), interval_seconds=30.0, run_enabled=True)
    return metrics


@pytest.fixture
def memory() -> Memory:
    return Memory()


@pytest.fixture
def metrics(memory: Memory) -> Metrics:
    return make_metrics({"music": memory})


def finished(result: Result = Result.SUCCESS, *, at: float = 1000.0, tally: Tally | None = None) -> PairFinished:
    return PairFinished(
        cycle_id="c1",
        pair="music",
        result=result,
        tally=tally or Tally(),
        duration_seconds=2.5,
        finished_timestamp_seconds=at,
    )


def committed(tally: Tally = TALLY) -> BatchCommitted:
    return BatchCommitted(cycle_id="c1", pair="music", tally=tally)


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return Exposition(metrics.families).registry.get_sample_value(f"truecopy_{name}", labels)


def test_every_series_of_the_catalogue_is_there_at_zero_and_no_other(metrics: Metrics) -> None:
    _, body = Exposition(metrics.families).render()

    samples = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in parse_text(body.decode())
        for sample in family.samples
    }
    expected = set()
    for series in EVERY_SERIES[:-1]:
        pair = [("pair", "music")] if series.by_pair else []
        for label in series.values or ("",):
            own = [(series.label, label)] if series.label else []
            expected.add((series.full_name, *sorted(pair + own)))
    build = ("truecopy_build_info", ("python", "3.11.2"), ("version", "0.1.0"))
    assert set(samples) == expected | {build}
    ones = {name[0] for name, number in samples.items() if number}
    assert ones == {
        "truecopy_brake_enabled",
        "truecopy_build_info",
        "truecopy_config_last_reload_successful",
        "truecopy_run_enabled",
        "truecopy_schedule_interval_seconds",
    }


def test_batches_count_before_the_pair_has_finished(metrics: Metrics, memory: Memory) -> None:
    metrics(CycleStarted(cycle_id="c1", pairs=("music",)))
    metrics(committed())

    assert value(metrics, "files_copied_total", pair="music") == 2
    assert value(metrics, "files_updated_total", pair="music") == 1
    assert value(metrics, "bytes_copied_total", pair="music") == 300
    assert value(metrics, "files_skipped_total", pair="music", reason="unchanged") == 7
    assert value(metrics, "files_failed_total", pair="music", reason="io_error") == 1
    assert value(metrics, "drift_found_total", pair="music", kind="content") == 1
    assert value(metrics, "cycle_in_progress") == 1
    assert memory.kept == PairHistory()


def test_a_finished_pair_is_kept_and_counted_once(metrics: Metrics, memory: Memory) -> None:
    metrics(committed())
    metrics(finished(Result.PARTIAL, tally=TALLY))
    metrics(CycleFinished(cycle_id="c1", result=Result.PARTIAL, tally=TALLY, duration_seconds=2.5))

    assert memory.kept.counts[("files_copied_total", "")] == 2
    assert value(metrics, "files_copied_total", pair="music") == 2
    assert value(metrics, "cycles_total", pair="music", result="partial") == 1
    assert value(metrics, "last_cycle_result", pair="music", result="partial") == 1
    assert value(metrics, "last_cycle_result", pair="music", result="success") == 0
    assert value(metrics, "cycle_duration_seconds", pair="music") == 2.5
    assert value(metrics, "last_cycle_files", pair="music", outcome="failed") == 1
    assert value(metrics, "last_cycle_files", pair="music", outcome="skipped") == 7
    assert value(metrics, "last_attempt_timestamp_seconds", pair="music") == 1000
    assert value(metrics, "last_success_timestamp_seconds", pair="music") == 0
    assert value(metrics, "cycle_in_progress") == 0


def test_why_a_pair_did_not_get_through_and_the_first_that_failed_are_kept_for_that_cycle_only(
    metrics: Metrics, memory: Memory
) -> None:
    about = {"cycle_id": "c1", "pair": "music"}
    metrics(PairRefused(**about, reason=Refusal.SOURCE_EMPTY, error="it is empty", hint="mount it"))
    metrics(finished(Result.REFUSED))
    refused = memory.kept
    for number in range(MOST_FAILING + 1):
        path = b"%d" % number
        metrics(FileFailed(**about, path=path, kind=Kind.FILE, reason=Failure.PERMISSION, error="Permission denied"))
    metrics(finished(Result.PARTIAL))
    partial = memory.kept
    metrics(PairFailed(**about, error="it went away", hint="look"))
    metrics(finished(Result.FAILED))
    failed = memory.kept
    metrics(finished(Result.SUCCESS))

    assert refused.trouble == PairProblem("pair_refused", "source_empty", "it is empty", "mount it")
    assert partial.trouble is None
    assert [each.path for each in partial.failing] == [b"%d" % number for number in range(MOST_FAILING)]
    assert partial.failing[0] == FailedEntry(b"0", "permission", "Permission denied")
    assert (failed.trouble, failed.failing) == (PairProblem("pair_failed", "", "it went away", "look"), ())
    assert (memory.kept.trouble, memory.kept.failing) == (None, ())


def test_only_a_success_moves_the_last_success(metrics: Metrics) -> None:
    metrics(finished(Result.SUCCESS, at=1000.0))
    for result in Result:
        if result is not Result.SUCCESS:
            metrics(finished(result, at=2000.0))

    assert value(metrics, "last_success_timestamp_seconds", pair="music") == 1000
    assert value(metrics, "last_attempt_timestamp_seconds", pair="music") == 2000


def test_counters_go_on_after_a_restart(tmp_path: Path) -> None:
    for _ in range(3):
        metrics = make_metrics({"music": real_memory(tmp_path)})
        metrics(committed())
        metrics(finished(tally=TALLY))

    metrics = make_metrics({"music": real_memory(tmp_path)})

    assert value(metrics, "files_copied_total", pair="music") == 6
    assert value(metrics, "cycles_total", pair="music", result="success") == 3
    assert value(metrics, "last_success_timestamp_seconds", pair="music") == 1000
    assert value(metrics, "last_cycle_files", pair="music", outcome="copied") == 2
    assert value(metrics, "last_cycle_result", pair="music", result="success") == 1


def test_what_cannot_be_kept_stays_counted_until_it_can(metrics: Metrics, memory: Memory) -> None:
    metrics(committed())
    metrics(finished(at=1000.0))
    memory.mounted = False
    refused = PairRefused(cycle_id="c2", pair="music", reason=Refusal.MIRROR_MISSING, error="gone", hint="")
    metrics(refused)
    metrics(finished(Result.REFUSED, at=2000.0))

    assert value(metrics, "pairs_refused_total", pair="music", reason="mirror_missing") == 1
    assert value(metrics, "files_copied_total", pair="music") == 2
    assert value(metrics, "last_success_timestamp_seconds", pair="music") == 1000
    assert value(metrics, "last_attempt_timestamp_seconds", pair="music") == 2000

    memory.mounted = True
    metrics(finished(at=3000.0))

    assert memory.kept.counts == {
        ("files_copied_total", ""): 2,
        ("files_updated_total", ""): 1,
        ("bytes_copied_total", ""): 300,
        ("files_skipped_total", "unchanged"): 7,
        ("files_failed_total", "io_error"): 1,
        ("drift_found_total", "content"): 1,
        ("pairs_refused_total", "mirror_missing"): 1,
        ("cycles_total", "success"): 2,
        ("cycles_total", "refused"): 1,
    }
    assert value(metrics, "pairs_refused_total", pair="music", reason="mirror_missing") == 1


def test_a_history_that_can_be_written_but_not_read_does_not_fall_to_zero(memory: Memory, metrics: Metrics) -> None:
    metrics(committed())
    metrics(finished(at=1000.0))
    memory.read = PairHistory  # type: ignore[method-assign]

    metrics(committed())
    metrics(finished(at=2000.0))

    assert value(metrics, "files_copied_total", pair="music") == 4
    assert value(metrics, "last_success_timestamp_seconds", pair="music") == 2000


def test_the_work_of_another_process_shows_after_the_next_cycle(metrics: Metrics, memory: Memory) -> None:
    memory.kept = memory.kept._replace(counts={("files_copied_total", ""): 5}, last_success_timestamp_seconds=900.0)

    metrics(finished(Result.BUSY))

    assert value(metrics, "files_copied_total", pair="music") == 5
    assert value(metrics, "last_success_timestamp_seconds", pair="music") == 900


def test_pairs_come_and_go_with_the_config(memory: Memory) -> None:
    other = Memory()
    other.kept = PairHistory(counts={("files_copied_total", ""): 9})
    memories: dict[str, PairMemory] = {"music": memory}
    metrics = make_metrics(memories)
    metrics(committed())

    memories["photos"] = other
    metrics.configure(pairs=["music", "photos"], interval_seconds=60.0, run_enabled=True)

    assert value(metrics, "files_copied_total", pair="music") == 2
    assert value(metrics, "files_copied_total", pair="photos") == 9
    assert value(metrics, "schedule_interval_seconds") == 60

    metrics.configure(pairs=["photos"], interval_seconds=60.0, run_enabled=False)

    assert value(metrics, "files_copied_total", pair="music") is None
    assert value(metrics, "run_enabled") == 0


@pytest.mark.parametrize(
    ("event", "name", "expected"),
    [
        (ConfigRejected(config="c", error="e", faults=()), "config_last_reload_successful", 0),
        (RunDisabled(config="c", run_enabled="N"), "run_enabled", 0),
        (NextCycleDue(due_timestamp_seconds=5000.0, wait_seconds=1.0), "next_cycle_timestamp_seconds", 5000),
    ],
)
def test_events_of_the_service_set_their_gauge(metrics: Metrics, event: Event, name: str, expected: float) -> None:
    metrics(event)

    assert value(metrics, name) == expected


def test_a_mended_config_and_a_new_cycle_set_their_gauges_back(metrics: Metrics) -> None:
    metrics(ConfigRejected(config="c", error="e", faults=()))
    metrics(RunDisabled(config="c", run_enabled="N"))

    metrics(ConfigReloaded(config="c", pairs=("music",)))
    metrics(CycleStarted(cycle_id="c1", pairs=("music",)))

    assert value(metrics, "config_last_reload_successful") == 1
    assert value(metrics, "run_enabled") == 1


def test_a_crashed_cycle_is_no_longer_in_progress(metrics: Metrics) -> None:
    metrics(CycleStarted(cycle_id="c1", pairs=("music",)))

    metrics(CycleCrashed(error="boom", traceback=()))

    assert value(metrics, "cycle_in_progress") == 0


def test_a_cycle_that_hangs_is_stalled_until_it_moves_again_or_the_next_one_starts(metrics: Metrics) -> None:
    hangs = CycleStalled(cycle_id="c1", pair="music", process="main", stalled_seconds=9.0, where="", doing="")
    seen = []
    for event in (
        CycleStarted(cycle_id="c1", pairs=("music",)),
        hangs,
        CycleResumed(cycle_id="c1", pair="music", stalled_seconds=9.0),
        hangs,
        CycleFinished(cycle_id="c1", result=Result.PARTIAL, tally=Tally(), duration_seconds=1.0),
        CycleStarted(cycle_id="c2", pairs=("music",)),
    ):
        metrics(event)
        seen.append(value(metrics, "cycle_stalled"))

    assert seen == [0, 1, 0, 1, 1, 0]


def test_failures_of_outputs_are_counted_by_a_closed_set_of_names(metrics: Metrics) -> None:
    for output in (*OUTPUTS, "something new"):
        metrics(OutputFailed(output=output, error="no"))

    assert value(metrics, "output_failures_total", output="log_file") == 1
    assert value(metrics, "output_failures_total", output="listener") == 2
    assert value(metrics, "output_failures_total", output="something new") is None


def test_failures_of_outputs_go_on_after_a_restart_and_are_counted_once(tmp_path: Path) -> None:
    for name in ("music", "photos"):
        (tmp_path / name).mkdir()

    def started() -> Metrics:
        return make_metrics({name: real_memory(tmp_path / name) for name in ("music", "photos")})

    first = started()
    first(OutputFailed(output="log_file", error="full"))
    first(finished())
    first(OutputFailed(output="pushgateway", error="gone"))
    shown_at_the_end = value(first, "output_failures_total", output="log_file")
    first.keep_outputs()
    first.keep_outputs()
    second = started()
    second(OutputFailed(output="pushgateway", error="gone"))
    second(finished())

    assert shown_at_the_end == 1
    assert value(first, "output_failures_total", output="pushgateway") == 1
    for metrics in (second, started()):
        assert value(metrics, "output_failures_total", output="log_file") == 1
        assert value(metrics, "output_failures_total", output="pushgateway") == 2


def test_failures_of_outputs_that_cannot_be_kept_are_shown_all_the_same(metrics: Metrics, memory: Memory) -> None:
    memory.mounted = False
    metrics(OutputFailed(output="textfile", error="gone"))
    metrics(finished())
    metrics.keep_outputs()

    assert value(metrics, "output_failures_total", output="textfile") == 1
    memory.mounted = True
    metrics(finished())
    assert memory.kept.counts[("output_failures_total", "textfile")] == 1
    assert value(metrics, "output_failures_total", output="textfile") == 1


def test_no_event_about_an_entry_makes_a_series(metrics: Metrics) -> None:
    before = Exposition(metrics.families).render()[1].count(b"\n")

    for number in range(100):
        path = b'"} 1\ntruecopy_evil 1 %d' % number
        metrics(FileFailed(cycle_id="c", pair="music", path=path, kind=Kind.FILE, reason=Failure.OTHER, error="x"))
    metrics(committed())
    metrics(finished())

    assert Exposition(metrics.families).render()[1].count(b"\n") == before


def test_openmetrics_is_given_to_whom_asks_and_holds_no_created_series(metrics: Metrics) -> None:
    kind, body = Exposition(metrics.families).render(
        "application/openmetrics-text;version=1.0.0;q=0.9,text/plain;version=0.0.4;q=0.2"
    )

    assert kind.startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")
    families = parse_openmetrics(body.decode())  # type: ignore[no-untyped-call]
    names = {sample.name for family in families for sample in family.samples}
    assert names == {series.full_name for series in EVERY_SERIES}


@pytest.mark.parametrize("accept", ["", "*/*", "application/openmetrics", "text/plain;version=evil\nx", "\xff" * 5000])
def test_any_other_accept_header_gets_text(metrics: Metrics, accept: str) -> None:
    kind, body = Exposition(metrics.families).render(accept)

    assert kind == "text/plain; version=0.0.4; charset=utf-8"
    assert not re.search(rb"_created|# EOF", body)


def test_a_version_in_the_accept_header_is_not_repeated(metrics: Metrics) -> None:
    kind, _ = Exposition(metrics.families).render("application/openmetrics-text;version=9.9-evil")

    assert "evil" not in kind


def test_a_scrape_during_the_work_sees_whole_counts(metrics: Metrics) -> None:
    seen: list[float] = []
    done = threading.Event()

    def scrape() -> None:
        while not done.is_set():
            copied = value(metrics, "files_copied_total", pair="music") or 0
            seen.append(copied)

    thread = threading.Thread(target=scrape)
    thread.start()
    for _ in range(100):
        metrics(committed(Tally(copied=1)))
        metrics(finished())
    done.set()
    thread.join(30)

    assert seen == sorted(seen)
    assert value(metrics, "files_copied_total", pair="music") == 100


@pytest.mark.needs_tool("promtool")
def test_promtool_finds_nothing_to_mend(metrics: Metrics) -> None:
    metrics(committed())
    metrics(finished())

    checked = subprocess.run(
        ["promtool", "check", "metrics"],
        input=Exposition(metrics.families).render()[1],
        capture_output=True,
        check=False,
    )

    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


@pytest.mark.parametrize(
    "event",
    [
        PortNotOpened(address="127.0.0.1:9477", error="taken", hint=""),
        PortNotChanged(address="127.0.0.1:9477", served="127.0.0.1:9478", error="taken", hint=""),
    ],
)
def test_a_port_that_cannot_be_had_counts_as_a_failure_of_that_output(metrics: Metrics, event: Event) -> None:
    metrics(event)

    assert value(metrics, "output_failures_total", output="http") == 1
