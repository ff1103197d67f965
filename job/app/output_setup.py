"""Check where logs and metrics are written before the first line is, and serve the HTTP port of the settings.

The port opens, moves and is tried again while the service runs, which warns and goes on without it.
"""

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import combinations
from typing import TYPE_CHECKING

from job.config.settings import PREFIX, Config, MetricsSettings
from job.errors import ConfigError, JobError
from job.events.base import Event
from job.events.pair import BatchCommitted
from job.events.service import ConfigReloaded, CycleFinished, PortChanged, PortNotChanged, PortNotOpened, ServiceWaited
from job.events.text import plural
from job.fs.mounts import is_below, resolve_path
from job.fs.trusted_path import why_no_place
from job.outputs.log_file import is_one_file, why_no_log

_HINT = "Correct the faults above, then run `truecopy config check`."
_ONE_FILE = "it is the file of log_file, which gets these lines anyway; name another one, or leave it out"
_LOGS = ("log_file", "error_log_file")
_TEXTFILE = "metrics.textfile"
OUTPUTS = (*_LOGS, _TEXTFILE)


def check_outputs(path: str, config: Config, environ: Mapping[str, str], *, closely: bool = False) -> None:
    """Refuse outputs that would overwrite other files, also through links and mounts.

    They must not lie in a source, a mirror or `state_dir`, nor be the configuration, the file of a secret, or one
    another. `config.consistency` compares only their text.

    `closely` also refuses outputs that will fail: links, devices and other users' files in place of a log, other users'
    links on the way, one file for both logs, and a Pushgateway that may not get the password. They do not end a run,
    since other users may create them in shared folders: the output fails, and the backup goes on. `path` is the
    configuration's. Raises `ConfigError` with every fault.
    """
    faults = tuple(_faults(path, config, environ, closely=closely))
    if faults:
        raise ConfigError(f"{path} cannot be used: {plural(len(faults), 'fault')}", hint=_HINT, faults=faults)


def _faults(path: str, config: Config, environ: Mapping[str, str], *, closely: bool) -> Iterator[str]:
    outputs = _outputs(config)
    secrets = {name: text for name, text in environ.items() if name.startswith(PREFIX) and name.endswith("_FILE")}
    inputs = {"the configuration": path, **{f"the file of {name}": text for name, text in secrets.items() if text}}
    for key, output in outputs.items():
        overwritten = (_taken(what) for what, read in inputs.items() if _is_same(output, read))
        why = _misplaced(config, output) or next(overwritten, "")
        if why := why or (_unwritable(key, output) if closely else ""):
            yield _fault(key, output, why)
    for one, other in combinations(outputs, 2):
        yield from _conflicts(config, one, other, closely=closely)
    if closely:
        yield from _state_faults(config)
    if closely and config.metrics.pushgateway_withheld:
        yield _fault("metrics.pushgateway", config.metrics.pushgateway, config.metrics.pushgateway_withheld)


def _conflicts(config: Config, one: str, other: str, *, closely: bool) -> Iterator[str]:
    """Compare two outputs, named by their keys."""
    outputs = _outputs(config)
    first, second = outputs[one], outputs[other]
    if other == _TEXTFILE:
        if _is_same(first, second):
            yield _fault(one, first, _taken(f"the file of {other}"))
    elif _is_rotated(config, first, second):
        yield _fault(other, second, _taken(f"where log_rotate puts an old file of {one}, or the reverse"))
    elif closely and is_one_file(first, second):
        yield _fault(other, second, _ONE_FILE)


def unwritable(outputs: Mapping[str, str]) -> tuple[str, ...]:
    """Return the faults of outputs, given by their keys, that the disk alone shows."""
    found = ((key, output, _unwritable(key, output)) for key, output in outputs.items() if "\0" not in output)
    return tuple(_fault(key, output, why) for key, output, why in found if why)


def _outputs(config: Config) -> dict[str, str]:
    found = {"log_file": config.log_file, "error_log_file": config.error_log_file, _TEXTFILE: config.metrics.textfile}
    return {key: output for key, output in found.items() if output is not None}


def _unwritable(key: str, output: str) -> str:
    return why_no_log(output) if key in _LOGS else why_no_place(output)


def _state_faults(config: Config) -> Iterator[str]:
    """Return faults of `state_dir` that preflight would refuse in every cycle."""
    state = config.state_dir
    where = next((place for place in _roots(config) if state and is_below(state, place[1])), None)
    if where:
        noun, root = where
        yield _fault("state_dir", state, f"lies in the {noun} {root}; write a path outside of every source and mirror")


def _fault(key: str, output: str | None, why: str) -> str:
    return f"{key} = {json.dumps(output, ensure_ascii=False)}: {why}"


def _taken(other: str) -> str:
    return f"it is {other}, which would be overwritten; name another file"


def _misplaced(config: Config, output: str) -> str:
    for noun, root in _roots(config):
        if is_below(output, root):
            from job.config.consistency import misplaced  # noqa: PLC0415  # for this fault only

            return misplaced(noun, root)
    if config.state_dir is not None and is_below(output, config.state_dir):
        own = "which holds nothing but Truecopy's own files"
        return f"lies in state_dir, {config.state_dir}, {own}; write a path outside of it"
    return ""


def _roots(config: Config) -> Iterator[tuple[str, str]]:
    for pair in config.effective_pairs:
        yield "source", pair.source
        yield "mirror", pair.dest


def _is_same(one: str, other: str) -> bool:
    """Return whether two paths lead to one file, also through links or mounts of a single file."""
    if resolve_path(one) == resolve_path(other):
        return True
    try:
        return os.path.samestat(os.stat(one, follow_symlinks=False), os.stat(other, follow_symlinks=False))
    except (OSError, ValueError):
        return False


def _is_rotated(config: Config, one: str, other: str) -> bool:
    """Return whether one log has the name of a rotated file of the other."""
    numbers = range(1, config.log_rotate.kept + 1) if config.log_rotate.size else range(0)
    for log, old in ((one, other), (other, one)):
        base, _, number = resolve_path(old).rpartition(".")
        if base == resolve_path(log) and number in map(str, numbers):
            return True
    return False


if TYPE_CHECKING:
    from job.outputs.http import Web

OFF = "off"

RETRY_SECONDS = 30.0
"""Interval of retries of a port that cannot be opened; it is also retried after each cycle."""

Place = tuple[str, int] | None
"""Address and port; None for no port."""


class Port:
    """Keeps the port at the configured address. Join it to the events, and close it at the end.

    `make` returns a server for one port, `wanted` the current configuration of metrics.
    """

    def __init__(
        self,
        make: Callable[[], "Web"],
        wanted: Callable[[], MetricsSettings],
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
        """Where metrics are served, as `host:port`; empty if they are not."""
        return "" if self._place is None else _shown(self._place)

    @property
    def state(self) -> str:
        """Whether metrics are `served`, `off` by the configuration, or `unavailable`."""
        if self._place is not None:
            return "served"
        return "unavailable" if self._wanted().enabled else OFF

    def open(self) -> None:
        """Begin to serve, or report that the port cannot be opened, and retry later."""
        self._follow(_place(self._wanted()))

    def close(self) -> None:
        """Close the port."""
        if self._web is not None:
            self._web.close()
        self._web, self._place = None, None

    def __call__(self, event: Event) -> None:
        """Follow a changed configuration, and retry a port that could not be opened."""
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
            # Once for each place and reason, not at each retry; a metric shows the lasting failure.
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
        """Serve at another place; the old one stays open until then. Raises `JobError`."""
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
        """Serve the old place again; another program may have taken it meanwhile."""
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


def _place(metrics: MetricsSettings) -> Place:
    return (metrics.address, metrics.port) if metrics.enabled else None


def _shown(place: Place) -> str:
    return OFF if place is None else f"{place[0]}:{place[1]}"
