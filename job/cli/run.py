"""`truecopy run`: the service, or with `--once` one cycle."""

import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

import click

from job.adapters.signals import StopSignal
from job.adapters.watch import Watch
from job.app.application import Application
from job.cli.context import Context
from job.core.config.effective import Config
from job.core.events import Event, RunDisabled, ServiceStarted, SignalTaken
from job.core.outcome import Result
from job.errors import Exit
from job.files.pulse import check, heartbeat_path

if TYPE_CHECKING:
    from job.adapters.web import Web


@click.command()
@click.option("--once", is_flag=True, help="Run one cycle, then exit with its result.")
@click.option("--quiet", "-q", is_flag=True, help="With --once on a terminal: no progress bars, JSON lines instead.")
@click.pass_obj
def run(context: Context, *, once: bool, quiet: bool) -> int:
    """Back up: as a service on schedule, or one cycle with --once.

    Exit codes of --once: 0 everything is copied and checked, 1 failed, 2 usage or configuration, 3 some entries
    failed, 4 refused by a guard, 75 another instance is at work, 130 and 143 stopped by a signal.

    Signals: SIGTERM and Ctrl-C end it in good order within seconds, and so does a terminal that hangs up, unless it
    runs under nohup. The service reads its configuration again on SIGHUP, and starts a cycle on SIGUSR1.
    """
    bars = once and not quiet and sys.stdout.isatty()
    with StopSignal(monotonic=time.monotonic, service=not once) as stop, ExitStack() as tidy:
        application = tidy.enter_context(
            closing(Application(context.config_path, context.environ, stream=None if bars else sys.stdout))
        )
        # Before the outputs that come with the config: who hangs in one of them is out of the cycle by then.
        watch = Watch(stop, application.emit, lambda: application.stall_timeout, give_up=once)
        application.join(watch)
        tidy.enter_context(watch)
        config = application.load()
        if once:
            return _once(application, config, stop, tidy if bars else None)
        return _serve(application, stop, context, tidy)


def _once(application: Application, config: Config, stop: StopSignal, bars: ExitStack | None) -> int:
    if not config.enabled:
        application.emit(RunDisabled(config=application.config_path, run_enabled=config.run_enabled))
        if bars is not None:
            click.echo(f'The run is disabled: run_enabled is {config.run_enabled!r}, and only "Y" runs.')
        return Exit.OK
    if bars is not None:
        _show_bars(application, bars)
    result = application.cycle(config, stop.requested)
    for name, effect in stop.news(busy=True):
        application.emit(SignalTaken(signal=name, effect=effect))
    return stop.exit if result is Result.STOPPED else result.exit


def _show_bars(application: Application, bars: ExitStack) -> None:
    from job.adapters.progress import Progress  # noqa: PLC0415  # rich is for terminals only, and slow to import

    application.join(bars.enter_context(closing(Progress(sys.stdout))))


def _serve(application: Application, stop: StopSignal, context: Context, tidy: ExitStack) -> int:
    from job.adapters.heartbeat import Heartbeat  # noqa: PLC0415  # one-shot runs have no loop
    from job.daemon import serve  # noqa: PLC0415

    path = heartbeat_path(context.config_path, context.environ)
    application.join(Heartbeat(path, wall=time.time, monotonic=time.monotonic))
    _open_port(application, lambda: check(path, time.time()), tidy)
    return serve(application, stop)


def _open_port(application: Application, healthy: Callable[[], tuple[bool, str]], tidy: ExitStack) -> None:
    from job.app.port import Port  # noqa: PLC0415  # one-shot runs have no port

    started = _Started()
    application.join(started)

    def web() -> "Web":
        from job.adapters.web import Web  # noqa: PLC0415  # slow, and some services serve nothing

        render = application.exposition().render
        return Web(render=render, healthy=healthy, ready=started.tell, failed=application.failed)

    port = tidy.enter_context(closing(Port(web, lambda: application.metrics, application.emit)))
    port.open()
    application.join(port)


class _Started:
    """Knows whether the loop began."""

    def __init__(self) -> None:
        self._began = False

    def __call__(self, event: Event) -> None:
        if isinstance(event, ServiceStarted):
            self._began = True

    def tell(self) -> tuple[bool, str]:
        """Give readiness and a sentence."""
        return self._began, "ready" if self._began else "starting"
