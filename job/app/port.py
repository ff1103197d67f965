"""The HTTP port as the configuration in force wants it: opened, moved and tried again while the service runs.

The work needs no port. Where the port cannot be had, that is a warning, and the service goes on without it.
"""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from job.config.settings import Metrics
from job.errors import JobError
from job.events.service import (
    BatchCommitted,
    ConfigReloaded,
    CycleFinished,
    Event,
    PortChanged,
    PortNotChanged,
    PortNotOpened,
    ServiceWaited,
)

if TYPE_CHECKING:
    from job.outputs.http import Web

OFF = "off"

RETRY_SECONDS = 30.0
"""A port that cannot be had is tried again so often, and after each cycle."""

Place = tuple[str, int] | None
"""Address and port; None for no port."""


class Port:
    """Keeps the port where the configuration in force has it. To be joined to the events, and closed at the end.

    `make` gives what serves one port, and `wanted` the metrics of the configuration in force.
    """

    def __init__(
        self,
        make: Callable[[], "Web"],
        wanted: Callable[[], Metrics],
        emit: Callable[[Event], None],
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._make = make
        self._wanted = wanted
        self._emit = emit
        self._monotonic = monotonic
        self._web: Web | None = None
        self._place: Place = None
        self._refused: Place = None
        self._why = ""
        self._tried = 0.0

    @property
    def served(self) -> str:
        """Where metrics are served, as `host:port`; empty where they are not."""
        return "" if self._place is None else _shown(self._place)

    @property
    def state(self) -> str:
        """Whether metrics are `served`, `off` by the configuration, or `unavailable`."""
        if self._place is not None:
            return "served"
        return "unavailable" if self._wanted().enabled else OFF

    def open(self) -> None:
        """Begin to serve, or tell that the port cannot be had; it is tried again then."""
        self._follow(_place(self._wanted()))

    def close(self) -> None:
        """Give the port back."""
        if self._web is not None:
            self._web.close()
        self._web, self._place = None, None

    def __call__(self, event: Event) -> None:
        """Follow a changed configuration, and try again what could not be had."""
        if isinstance(event, ConfigReloaded | CycleFinished) or (
            self._refused is not None
            and isinstance(event, ServiceWaited | BatchCommitted)
            and self._monotonic() - self._tried >= RETRY_SECONDS
        ):
            before = self._place
            if self._follow(_place(self._wanted())) and self._place != before:
                self._emit(PortChanged(address=_shown(self._place), before=_shown(before)))

    def _follow(self, place: Place) -> bool:
        if place == self._place:
            self._refused = None
            return True
        try:
            self._move(place)
        except JobError as error:
            # Once for each place and reason, not every half minute; the alert says all the time that it is still so.
            if (place, error.message) != (self._refused, self._why):
                self._emit(self._refusal(place, error))
            self._refused, self._why = place, error.message
            self._tried = self._monotonic()
            return False
        self._refused = None
        return True

    def _refusal(self, place: Place, error: JobError) -> Event:
        if self._place is None:
            return PortNotOpened(address=_shown(place), error=error.message, hint=error.hint)
        return PortNotChanged(address=_shown(place), served=_shown(self._place), error=error.message, hint=error.hint)

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
                self._reopen(old)
                raise
        self.close()
        self._web, self._place = web, place

    def _reopen(self, old: Place) -> None:
        """Serve the old place again; somebody else may have taken it in the meantime."""
        try:
            self._web, self._place = self._served(old), old
        except JobError as error:
            self._emit(PortNotOpened(address=_shown(old), error=error.message, hint=error.hint))

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
