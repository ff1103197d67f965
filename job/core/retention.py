"""Retention: which versions of a mirror expire, and when the clock may be believed. Pure; `now` is an argument.

A version has the time at which its content was replaced, never that of its file: an old photo deleted today is a
version of today. Each path of each mirror is judged by itself, by three guards and then by the rule:

* the newest version of a path that the mirror does not hold stays, whatever the clock does (invariant 11);
* versions of the newest `FLOOR` version folders stay, so that a disk that comes back after months keeps some;
* versions from the future stay, and do not count.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from enum import StrEnum
from typing import NamedTuple

from job.core.versions import Moment, OrphanRow

FLOOR = 5
"""Version folders that no rule, and no full disk, takes."""
MOST_CLOCK_DIFFERENCE = 300.0
"""Seconds between the clock and that of the mirror's file system."""
_SLACK_SECONDS = 3600.0
_HOUR, _DAY, _WEEK, _MONTH = "hourly", "daily", "weekly", "monthly"


class KeepFor(NamedTuple):
    """Keep each version for a time."""

    seconds: float


class KeepCounts(NamedTuple):
    """Keep the contents that stood at the beginning of hours, days, weeks and months: the newest of each that have any.

    The calendar is that of the pair's time zone. Weeks begin on Monday.
    """

    hourly: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0


Keep = KeepFor | KeepCounts


class VersionFate(StrEnum):
    """Why a version stays or expires."""

    NEWEST = "newest"
    """It is the newest one of a path that the mirror does not hold, by its time or by the order of cycles."""
    FLOOR = "floor"
    """Its folder is one of the newest."""
    FUTURE = "future"
    """Its time is later than now."""
    YOUNG = "young"
    """It is younger than the rule says."""
    HOURLY = _HOUR
    DAILY = _DAY
    WEEKLY = _WEEK
    MONTHLY = _MONTH
    OLD = "old"
    """It expires: it is older than the rule says."""
    BETWEEN = "between"
    """It expires: its content did not stand at the beginning of an hour, day, week or month that counts."""
    MOST = "most"
    """It goes, as all versions together take more than they may, and is among the oldest."""

    @property
    def expires(self) -> bool:
        """Whether the version is removed."""
        return self in {VersionFate.OLD, VersionFate.BETWEEN}

    @property
    def is_guarded(self) -> bool:
        """Whether it stays even if the disk is full."""
        return self in {VersionFate.NEWEST, VersionFate.FLOOR, VersionFate.FUTURE}


class Retention:
    """The rule of one mirror, applied at one time."""

    def __init__(self, keep: Keep, folders: Sequence[Moment], now: float, zone: tzinfo) -> None:
        """`folders` are all version folders of the mirror in the order of their cycles; by time, if that is unknown.

        The orders differ if the clock was wrong meanwhile.
        """
        past = [moment for moment in folders if moment.seconds <= now]
        self._keep, self._now = keep, now
        self._bucket = _buckets(zone)
        self._order = {moment: number for number, moment in enumerate(folders)}
        self.floor = frozenset(past[-FLOOR:])
        """The newest version folders, which stay."""
        self.future = sorted(moment for moment in folders if moment.seconds > now)
        """Version folders with times later than now, to be reported."""
        self._kept_buckets = {
            name: frozenset(_newest({self._bucket[name](moment.seconds) for moment in past}, count))
            for name, count in (keep._asdict().items() if isinstance(keep, KeepCounts) else ())
        }

    def standing(self, moment: Moment) -> int | None:
        """Return a number, not 0, that changes when more versions of a folder may expire; None if all of them stay."""
        if moment in self.floor or moment.seconds > self._now:
            return None
        if isinstance(self._keep, KeepFor):
            return None if self._now - moment.seconds <= self._keep.seconds else 1
        kept = [self._bucket[name](moment.seconds) in buckets for name, buckets in self._kept_buckets.items()]
        return 1 + sum(1 << number for number, is_kept in enumerate(kept) if is_kept)

    @property
    def is_for_time(self) -> bool:
        """Whether the fate of a version of a path that the mirror holds depends on its folder alone."""
        return isinstance(self._keep, KeepFor)

    def fates(self, of_path: Collection[Moment], *, held: bool) -> dict[Moment, VersionFate]:
        """Judge all versions of one path, in the order of time; `held` tells whether the mirror has an entry there."""
        moments = sorted(of_path)
        past = [moment for moment in moments if moment.seconds <= self._now]
        # A version from the future may be older than it seems, so it does not stand in for the newest one.
        newest = set() if held or not past else {past[-1], max(past, key=lambda moment: self._order.get(moment, -1))}
        found: dict[Moment, VersionFate] = {}
        before: Moment | None = None
        for moment in past:
            if moment in newest:
                found[moment] = VersionFate.NEWEST
            elif moment in self.floor:
                found[moment] = VersionFate.FLOOR
            else:
                found[moment] = self._rule(moment, before)
            before = moment
        return found | dict.fromkeys(moments[len(past) :], VersionFate.FUTURE)

    def _rule(self, moment: Moment, before: Moment | None) -> VersionFate:
        if isinstance(self._keep, KeepFor):
            return VersionFate.YOUNG if self._now - moment.seconds <= self._keep.seconds else VersionFate.OLD
        for name, kept in self._kept_buckets.items():
            bucket = self._bucket[name](moment.seconds)
            # The first content replaced in a bucket is the one that stood at its beginning.
            if bucket in kept and (before is None or self._bucket[name](before.seconds) != bucket):
                return VersionFate(name)
        return VersionFate.BETWEEN


Bucket = tuple[int, ...]


def _buckets(zone: tzinfo) -> Mapping[str, Callable[[int], Bucket]]:
    def local(until: int) -> datetime:
        # By the last second in which a content stood: one replaced at midnight did not see the new day.
        return datetime.fromtimestamp(until - 1, UTC).astimezone(zone)

    def hour(until: int) -> Bucket:
        # An hour that occurs twice, as clocks go back, is two.
        here = local(until)
        return here.year, here.month, here.day, here.hour, here.fold

    def day(until: int) -> Bucket:
        return (local(until).toordinal(),)

    def week(until: int) -> Bucket:
        return tuple(local(until).isocalendar()[:2])

    def month(until: int) -> Bucket:
        here = local(until)
        return here.year, here.month

    return {_HOUR: hour, _DAY: day, _WEEK: week, _MONTH: month}


def _newest(buckets: Collection[Bucket], count: int) -> Sequence[Bucket]:
    return sorted(buckets)[-count:] if count else ()


def folders_to_give_up(folders: Iterable[Moment], retention: Retention) -> Iterator[Moment]:
    """Yield the version folders that a full disk may take, oldest first.

    Of each, versions of which `fates` says that they are guarded stay.
    """
    for moment in sorted(folders):
        if moment not in retention.floor and moment not in retention.future:
            yield moment


def is_futile(free_bytes: Sequence[int]) -> bool:
    """Return whether giving up versions frees nothing, by the free bytes before and after each batch.

    Versions may share their blocks with snapshots of the file system or with other files.
    """
    return len(free_bytes) > 2 and max(free_bytes[-2:]) <= free_bytes[-3]  # noqa: PLR2004 (two batches without a gain)


def next_due(keep: Keep, folders: Iterable[Moment], now: float) -> float:
    """Return the first time from `now` on at which more of the same folders may expire; infinity for never.

    Counts are of the folders that exist: time alone lets nothing expire by them. A folder from the future counts from
    its time on, and may take the place of another one in the floor.
    """
    times = [float(moment.seconds) for moment in folders]
    due = [seconds for seconds in times if seconds >= now]
    if isinstance(keep, KeepFor):
        due += [when for seconds in times if (when := seconds + keep.seconds) >= now]
    return min(due, default=float("inf"))


def rule_text(keep: Keep) -> str:
    """Return a rule in words, as it is shown and compared with that of the last cycle."""
    if isinstance(keep, KeepFor):
        days = keep.seconds / _DAY_SECONDS
        return f"{days:g} day{'' if days == 1 else 's'}"
    return ", ".join(f"{count} {name}" for name, count in keep._asdict().items() if count)


_DAY_SECONDS = 86400.0
_SCANS = 2
"""Complete scans that an entry has to be missing in."""


def may_retire(orphan: OrphanRow, now: float, scan: int, after: float) -> bool:
    """Return whether an entry that left the source may leave the mirror in the complete scan number `scan`.

    `after` is `retire_after` in seconds. A time in the future means a wrong clock, then or now.
    """
    return now - orphan.since_ns / 1e9 >= max(after, 0.0) and scan - orphan.scan >= _SCANS


class MostVersions(NamedTuple):
    """The limit of all versions of a mirror together; one of both is 0."""

    share: float = 0.0
    """Of the disk, up to 1."""
    bytes: int = 0

    def in_bytes(self, disk_bytes: int) -> int:
        """Return the limit on a disk of this size."""
        return int(self.share * disk_bytes) if self.share else self.bytes


class ClockDoubt(StrEnum):
    """Why nothing expires in this cycle."""

    BEHIND = "behind"
    """The clock is before the end of the last cycle."""
    AHEAD = "ahead"
    """It is far ahead of it: after a pause, or set wrongly. The next cycle may let versions expire."""
    DISK = "disk"
    """It differs from that of the mirror's file system."""


def doubt_clock(now: float, last_cycle: float | None, interval: float, disk: float | None) -> ClockDoubt | None:
    """Return why the clock of a cycle that began at `now` is not believed; None if it is.

    `last_cycle` is the end of the last one on this mirror, None for none, `interval` the planned time between two,
    `disk` the modification time of a file just made on the mirror, None if unknown. All are seconds.
    """
    if disk is not None and abs(disk - now) > MOST_CLOCK_DIFFERENCE:
        return ClockDoubt.DISK
    if last_cycle is None:
        return ClockDoubt.AHEAD
    if now < last_cycle:
        return ClockDoubt.BEHIND
    # Runs by cron begin with some jitter; a jump by less than an hour makes nothing expire that matters.
    most = interval + max(interval, _SLACK_SECONDS)
    return ClockDoubt.AHEAD if now - last_cycle > most else None
