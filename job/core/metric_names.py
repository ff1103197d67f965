"""All metrics of Truecopy: name, type, labels with their closed sets of values, meaning. Pure data.

`outputs/metrics.py` exposes exactly these; the documents are generated from them, dashboards and alerts checked.
"""

from typing import Literal, NamedTuple

from job.core.outcome import BrakeReason, Drift, Failure, Refusal, Result, Skip

PREFIX = "truecopy_"

OUTPUTS = (
    "stdout",
    "log_file",
    "error_log_file",
    "textfile",
    "pushgateway",
    "history",
    "heartbeat",
    "http",
    "listener",
)
"""Outputs, which may fail without failing a cycle: the label `output`."""

FILE_OUTCOMES = ("copied", "updated", "skipped", "failed")

LAST_SUCCESS = "last_success_timestamp_seconds"
"""The one metric that is pushed only after a success."""


class Series(NamedTuple):
    """One metric. `label` is its label besides `pair`, with all its `values`."""

    name: str
    """Without the prefix."""
    type: Literal["counter", "gauge"]
    meaning: str
    by_pair: bool = True
    label: str = ""
    values: tuple[str, ...] = ()

    @property
    def full_name(self) -> str:
        """The name as it is exposed."""
        return PREFIX + self.name

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of its labels, in order."""
        return (("pair",) if self.by_pair else ()) + ((self.label,) if self.label else ())


class Family(NamedTuple):
    """A metric with its present samples."""

    series: Series
    labels: tuple[str, ...]
    samples: list[tuple[tuple[str, ...], float]]
    """The values of the labels, and the number."""


PAIR_COUNTERS = (
    Series("files_copied_total", "counter", "Files and symlinks copied, synced and indexed."),
    Series("files_updated_total", "counter", "Files whose metadata was corrected without copying their content."),
    Series(
        "files_skipped_total", "counter", "Entries not copied, without failure.", label="reason", values=tuple(Skip)
    ),
    Series("files_failed_total", "counter", "Entries that failed.", label="reason", values=tuple(Failure)),
    Series("bytes_copied_total", "counter", "Bytes of content copied."),
    Series("attributes_unread_total", "counter", "Source entries copied without unreadable attributes."),
    Series(
        "drift_found_total",
        "counter",
        "Mirror entries that differed from the index.",
        label="kind",
        values=tuple(Drift),
    ),
    Series("pairs_refused_total", "counter", "Refusals by a guard.", label="reason", values=tuple(Refusal)),
    Series("versions_expired_total", "counter", "Versions removed by `versions.keep` or `versions.most`."),
    Series("versions_given_up_total", "counter", "Versions removed before their time, as the disk was full."),
    Series(
        "brake_trips_total",
        "counter",
        "Cycles in which the brake began to hold what would replace too much.",
        label="reason",
        values=tuple(BrakeReason),
    ),
    Series("cycles_total", "counter", "Cycles that ended, by result.", label="result", values=tuple(Result)),
)
"""Counters kept in each pair's history."""

PAIR_GAUGES = (
    Series(LAST_SUCCESS, "gauge", "End of the last cycle that copied and checked everything; 0 for never."),
    Series("last_attempt_timestamp_seconds", "gauge", "End of the last cycle, with any result; 0 for never."),
    Series("cycle_duration_seconds", "gauge", "Duration of the last cycle."),
    Series(
        "last_cycle_result",
        "gauge",
        "1 for the result of the last cycle; 0 for all others, and before the first cycle.",
        label="result",
        values=tuple(Result),
    ),
    Series(
        "hold_active",
        "gauge",
        "1 while the brake holds what would replace too much, until a person approves it.",
        label="reason",
        values=tuple(BrakeReason),
    ),
    Series("brake_enabled", "gauge", "0 if the brake of the pair is off."),
    Series("last_cycle_files", "gauge", "Entries of the last cycle.", label="outcome", values=FILE_OUTCOMES),
    Series("versions_files", "gauge", "Number of versions in the mirror."),
    Series("versions_bytes", "gauge", "Sum of the sizes of the versions in the mirror."),
    Series("orphans_files", "gauge", "Entries of the mirror that left the source, without folders."),
    Series("orphans_bytes", "gauge", "Their bytes."),
)

OWN_SERIES = (
    Series(
        "output_failures_total",
        "counter",
        "Failures of an output; they never fail a cycle. A log counts once an outage.",
        by_pair=False,
        label="output",
        values=OUTPUTS,
    ),
    Series("cycle_in_progress", "gauge", "1 while a cycle runs.", by_pair=False),
    Series(
        "cycle_stalled", "gauge", "1 once a cycle or worker hangs, until it moves or the next starts.", by_pair=False
    ),
    Series("schedule_interval_seconds", "gauge", "Expected seconds between two cycles.", by_pair=False),
    Series("next_cycle_timestamp_seconds", "gauge", "When the next cycle is due; 0 while unknown.", by_pair=False),
    Series("config_last_reload_successful", "gauge", "0 while the config file cannot be used.", by_pair=False),
    Series("run_enabled", "gauge", "0 while run_enabled is not 'Y'.", by_pair=False),
)

BUILD_INFO = Series("build_info", "gauge", "Always 1; its labels `version` and `python` tell the build.", by_pair=False)
