"""The HTTP port as the configuration in force wants it: moved while the service runs when that changes."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from job.core.config.effective import Metrics
from job.core.events import ConfigReloaded, CycleFinished, Event, PortChanged, PortNotChanged
from job.errors import JobError

if TYPE_CHECKING:
    from job.adapters.web import Web

OFF = "off"

Place = tuple[str, int] | None
"""Address and port; None for no port."""


class Port:
    """Keeps the port where the configuration in force has it. To be joined to the events, and closed at the end.

    `make` gives what serves one port, and `wanted` the metrics of the configuration in force.
    """

    def __init__(self, make: Callable[[], "Web"], wanted: Callable[[], Metrics], emit: Callable[[Event], None]) -> None:
        self._make = make
        self._wanted = wanted
        self._emit = emit
        self._web: Web | None = None
        self._place: Place = None
        self._refused: Place = None

    def open(self) -> None:
        """Begin to serve. Raises `JobError` where the port cannot be had."""
        place = _place(self._wanted())
        self._web, self._place = self._served(place), place

    def close(self) -> None:
        """Give the port back."""
        if self._web is not None:
            self._web.close()
        self._web, self._place = None, None

    def __call__(self, event: Event) -> None:
        """Follow a changed configuration; what could not be had then is tried again after each cycle."""
        if isinstance(event, ConfigReloaded | CycleFinished):
            self._follow(_place(self._wanted()))

    def _follow(self, place: Place) -> None:
        if place == self._place:
            self._refused = None
            return
        before = self._place
        try:
            self._move(place)
        except JobError as error:
            if place != self._refused:
                self._emit(PortNotChanged(address=_shown(place), served=_shown(self._place), error=error.message))
            self._refused = place
        else:
            self._refused = None
            self._emit(PortChanged(address=_shown(place), before=_shown(before)))

    def _move(self, place: Place) -> None:
        """Serve at another place; the old one is served until the new one is. Raises `JobError`."""
        old = self._place
        try:
            web = self._served(place)
        except JobError:
            # `127.0.0.1` and `0.0.0.0` cannot listen on one port at the same time. Tried once, since metrics pause.
            if place is None or old is None or place[1] != old[1] or place == self._refused:
                raise
            self.close()
            try:
                web = self._served(place)
            except JobError:
                self._web, self._place = self._served(old), old
                raise
        self.close()
        self._web, self._place = web, place

    def _served(self, place: Place) -> "Web | None":
        if place is None:
            return None
        web = self._make()
        web.start(*place)
        return web


def _place(metrics: Metrics) -> Place:
    return (metrics.address, metrics.port) if metrics.enabled else None


def _shown(place: Place) -> str:
    return OFF if place is None else f"{place[0]}:{place[1]}"
