"""A service, its clocks and its stop on simulated time, for the tests of the loop."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Protocol, cast

from job.app.application import Application
from job.config.settings import Config
from job.core.outcome import Result
from job.errors import Exit
from job.events.base import Event
from job.service import SLICE_SECONDS, serve
from job.system.signals import StopSignal
from tests.config.configs import to_settings

START = datetime(2026, 6, 1, 12, tzinfo=UTC).timestamp()
BASE = to_settings(source_dirs=["/source"], dest_dirs=["/mirror"], sleep_time=30)


def config(**changes: Any) -> Config:
    return BASE._replace(**changes)


def moment(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


class World:
    """Clocks, a service and a stop in one: time passes only while somebody waits or a cycle works."""

    config_path = "config/backup_config.json"
    address = "127.0.0.1:9477"
    port_state = "served"

    def __init__(self, first: Config, *, start: float = START, lasts: float = 3600.0, cycle_takes: float = 2.0) -> None:
        self.wall = start
        self.mono = 77.0
        self.end = self.mono + lasts
        self.takes = cycle_takes
        self.file: Config | None = first
        self.good = first
        self.read: Config | None = first
        self.watched = True
        self.success: float | None = None
        self.cycles: list[float] = []
        self.elapsed: list[float] = []
        self.configs: list[Config] = []
        self.events: list[Event] = []
        self.slept: list[float] = []
        self.plans: list[tuple[float, Callable[[], None]]] = []
        self.crash: BaseException | None = None
        self.reload_crash: BaseException | None = None
        self.asked = 0
        self.signals: list[str] = []
        self.untold: list[str] = []

    def at(self, seconds: float, action: Callable[[], None]) -> None:
        """Let something happen so many seconds after the start."""
        self.plans.append((77.0 + seconds, action))
        self.plans.sort(key=lambda plan: plan[0])

    def edit(self, new: Config | None) -> None:
        """Save the config file; None is a broken one."""
        self.file = new

    def told(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]

    # The service.

    def reload(self, *, asked: bool = False) -> Config:
        self.asked += asked
        self.read = self.file
        self.good = self.file or self.good
        if self.reload_crash:
            raise self.reload_crash
        return self.good

    def config_changed(self) -> bool:
        return self.watched and self.file is not self.read

    def cycle(self, config: Config, stop: Callable[[], bool]) -> Result:
        self.cycles.append(self.wall)
        self.elapsed.append(self.mono - 77.0)
        self.configs.append(config)
        self._pass_by(self.takes)
        if self.crash:
            raise self.crash
        return Result.STOPPED if stop() else Result.SUCCESS

    def last_success(self) -> float | None:
        return self.success

    def emit(self, event: Event) -> None:
        self.events.append(event)

    def now(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self.mono

    # The stop.

    @property
    def signal_name(self) -> str:
        return "SIGTERM" if self.requested() else ""

    def requested(self) -> bool:
        return self.mono >= self.end

    def send(self, name: str) -> None:
        """Let a signal come that does not stop the service."""
        self.signals.append(name)
        self.untold.append(name)

    def requests(self) -> set[str]:
        requests, self.signals = set(self.signals), []
        return requests

    def notices(self, *, busy: bool) -> list[tuple[str, str]]:
        notices, self.untold = [(name, f"busy: {busy}") for name in self.untold], []
        return notices

    def wait(self, seconds: float) -> bool:
        self.slept.append(seconds)
        # A real sleep is never exact; a loop that needs exactness would spin here for ever.
        self._pass_by(max(seconds, 0.001))
        return self.requested()

    def _pass_by(self, seconds: float) -> None:
        target = self.mono + seconds
        while self.plans and self.plans[0][0] <= target:
            when, action = self.plans.pop(0)
            self._move(when)
            action()
        self._move(min(target, max(self.end, self.mono)))

    def _move(self, target: float) -> None:
        self.wall += max(0.0, target - self.mono)
        self.mono = max(self.mono, target)

    def run(self, *, chance: float = 0.5, slice_seconds: float = SLICE_SECONDS) -> Exit:
        return serve(
            cast("Application", self), cast("StopSignal", self), chance=lambda: chance, slice_seconds=slice_seconds
        )

    def since_start(self) -> list[float]:
        """When cycles started, by the wall clock, in seconds since the start of the world."""
        return [round(cycle - START, 2) for cycle in self.cycles]


class Service(Protocol):
    """What the loop calls of the application."""

    @property
    def config_path(self) -> str: ...

    @property
    def address(self) -> str: ...

    @property
    def port_state(self) -> str: ...

    def reload(self, *, asked: bool = False) -> Config: ...

    def config_changed(self) -> bool: ...

    def cycle(self, config: Config, stop: Callable[[], bool]) -> Result: ...

    def last_success(self) -> float | None: ...

    def emit(self, event: Event) -> None: ...

    def now(self) -> float: ...

    def monotonic(self) -> float: ...


class Stop(Protocol):
    """What the loop calls of the signals."""

    @property
    def signal_name(self) -> str: ...

    def requested(self) -> bool: ...

    def requests(self) -> set[str]: ...

    def notices(self, *, busy: bool) -> list[tuple[str, str]]: ...

    def wait(self, seconds: float) -> bool: ...


def holds_to_the_contract(
    world: World, application: Application, stop: StopSignal
) -> tuple[Service, Stop, Service, Stop]:
    """Let the type checker hold the fake to what the loop calls, and that to the real ones."""
    return world, world, application, stop
