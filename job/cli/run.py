"""`truecopy run`: the service, or with `--once` one cycle."""

import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, closing

import click

from job.adapters.signals import StopSignal
from job.adapters.watch import Watch
from job.app.application import Application
from job.cli.context import Context, check_names, pair_option
from job.cli.streams import has_output, tolerate_lost_output
from job.core.config.effective import Config
from job.core.events import Event, RunDisabled, ServiceStarted
from job.core.outcome import Result
from job.errors import Exit
from job.files.pulse import check, heartbeat_path


@click.command(
    epilog="""\b
Examples:
  truecopy run --once
  truecopy run --once --pair photos --pair music
  truecopy run --config /etc/truecopy.json
"""
)
@click.option("--once", is_flag=True, help="Run one cycle, then exit with its result.")
@click.option("--quiet", "-q", is_flag=True, help="With --once on a terminal: no progress bars, JSON lines instead.")
@pair_option
@click.pass_obj
def run(context: Context, *, once: bool, quiet: bool, only: tuple[str, ...]) -> int:
    """Back up, on schedule or once.

    Without --once this is the service: a cycle at the start, then by `schedule` or `sleep_time`, until a signal
    ends it. With --pair only these pairs are backed up, for as long as the service runs.

    Exit codes of --once: 0 everything is copied and checked, 1 failed, 2 usage or configuration, 3 some entries
    failed, 4 refused by a guard, 75 another instance is at work, 130 and 143 stopped by a signal.
    """
    tolerate_lost_output()
    bars = once and not quiet and sys.stdout.isatty()
    stream = sys.stdout if has_output() and not bars else None
    with StopSignal(monotonic=time.monotonic) as stop, ExitStack() as tidy:
        application = tidy.enter_context(closing(Application(context.config_path, context.environ, stream=stream)))
        # Before the outputs that come with the config: who hangs in one of them is out of the cycle by then.
        watch = Watch(stop, application.emit, lambda: application.stall_timeout, give_up=once)
        application.join(watch)
        tidy.enter_context(watch)
        config = application.load()
        if only:
            check_names(only, [pair.name for pair in config.effective_pairs])
            config = application.keep_to(only)
        if once:
            return _once(application, config, stop, tidy if bars else None)
        return _serve(application, config, stop, context, tidy)


def _once(application: Application, config: Config, stop: StopSignal, bars: ExitStack | None) -> int:
    if not config.enabled:
        application.emit(RunDisabled(config=application.config_path, run_enabled=config.run_enabled))
        if bars is not None:
            click.echo(f'The run is disabled: run_enabled is {config.run_enabled!r}, and only "Y" runs.')
        return Exit.OK
    if bars is not None:
        _show_bars(application, bars)
    result = application.cycle(config, stop.requested)
    return stop.exit if result is Result.STOPPED else result.exit


def _show_bars(application: Application, bars: ExitStack) -> None:
    from job.adapters.progress import Progress  # noqa: PLC0415  # rich is for terminals only, and slow to import

    application.join(bars.enter_context(closing(Progress(sys.stdout))))


def _serve(application: Application, config: Config, stop: StopSignal, context: Context, tidy: ExitStack) -> int:
    from job.adapters.heartbeat import Heartbeat  # noqa: PLC0415  # one-shot runs have no loop
    from job.daemon import serve  # noqa: PLC0415

    path = heartbeat_path(context.config_path, context.environ)
    application.join(Heartbeat(path, wall=time.time, monotonic=time.monotonic))
    if config.metrics.enabled:
        _open_port(application, config, lambda: check(path, time.time()), tidy)
    return serve(application, stop)


def _open_port(
    application: Application, config: Config, healthy: Callable[[], tuple[bool, str]], tidy: ExitStack
) -> None:
    from job.adapters.web import Web  # noqa: PLC0415  # one-shot runs have no port

    started = _Started()
    application.join(started)
    web = tidy.enter_context(
        closing(
            Web(render=application.exposition().render, healthy=healthy, ready=started.tell, failed=application.failed)
        )
    )
    web.start(config.metrics.address, config.metrics.port)


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
