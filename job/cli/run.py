"""`truecopy run`: the service, or with `--once` one cycle."""

import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

import click

from job.app.application import Application
from job.cli.main import Context, check_names, pair_option
from job.cli.streams import has_output, tolerate_lost_output
from job.config.settings import Config
from job.core.outcome import Result
from job.errors import Exit
from job.events.base import Event
from job.events.service import BusySkipped, RunDisabled, ServiceStarted, SignalReceived
from job.events.text import sentence
from job.health import HealthFile, check
from job.outputs.liveness import Watchdog
from job.system.resources import raise_descriptor_limit
from job.system.signals import StopSignal

if TYPE_CHECKING:
    from job.outputs.http import Web


@click.command(
    epilog="""\b
Examples:
  truecopy run --once
  truecopy run --once --pair photos --pair music
  truecopy run --config /etc/truecopy.json
"""
)
@click.option("--once", is_flag=True, help="Run one cycle, then exit with its result.")
@click.option("--quiet", "-q", is_flag=True, help="Print warnings and errors only; log files get everything.")
@click.option(
    "--skip-if-busy",
    is_flag=True,
    help="With --once: a lock that another instance holds is reported, and the exit code is 0 instead of 75.",
)
@pair_option
@click.pass_obj
def run(context: Context, *, once: bool, quiet: bool, skip_if_busy: bool, only: tuple[str, ...]) -> int:
    """Back up, on schedule or once.

    Without --once this is the service: a cycle at the start, then by `schedule` or `sleep_time`, until a signal
    ends it. With --pair only these pairs are backed up, for as long as the service runs.

    Exit codes of --once: 0 everything is copied and checked, 1 failed, 2 usage or configuration, 3 some entries
    failed, 4 refused by a guard, 75 another instance is at work, 130 and 143 stopped by a signal.

    Signals: SIGTERM and Ctrl-C end it in good order within seconds, and so does a terminal that hangs up, unless it
    runs under nohup. The service reads its configuration again on SIGHUP, and starts a cycle on SIGUSR1.
    """
    tolerate_lost_output()
    if skip_if_busy and not once:
        raise click.UsageError("--skip-if-busy needs --once: the service waits for its next cycle anyway.")
    raise_descriptor_limit()
    bars = once and not quiet and sys.stdout.isatty()
    stream = sys.stdout if has_output() and not bars else None
    with StopSignal(monotonic=time.monotonic, service=not once) as stop, ExitStack() as tidy:
        application = tidy.enter_context(
            closing(Application(context.config_path, context.environ, stream=stream, quiet=quiet))
        )
        # Joined before the outputs of the configuration: it sees the end of a cycle even if an output hangs then.
        watch = Watchdog(stop, application.emit, lambda: application.stall_timeout, give_up=once)
        application.join(watch)
        tidy.enter_context(watch)
        config = application.load()
        if only:
            check_names(only, [pair.name for pair in config.effective_pairs])
            config = application.keep_to(only)
        if once:
            return _once(application, config, stop, tidy if bars else None, skip_if_busy=skip_if_busy)
        return _serve(application, stop, context, tidy)


def _once(
    application: Application, config: Config, stop: StopSignal, bars: ExitStack | None, *, skip_if_busy: bool
) -> int:
    if not config.enabled:
        application.emit(RunDisabled(config=application.config_path, run_enabled=config.run_enabled))
        if bars is not None:
            click.echo(f'The run is disabled: run_enabled is {config.run_enabled!r}, and only "Y" runs.')
        return Exit.OK
    if bars is not None:
        from job.outputs.progress import ProgressDisplay  # noqa: PLC0415  # rich is for terminals only, and slow to import

        application.join(bars.enter_context(closing(ProgressDisplay(sys.stdout))))
    result = application.cycle(config, stop.requested)
    for name, effect in stop.notices(busy=True):
        application.emit(SignalReceived(signal=name, effect=effect))
    if result is Result.BUSY and skip_if_busy:
        skipped = BusySkipped()
        application.emit(skipped)
        if bars is not None:
            click.echo(sentence(skipped, {}))
        return Exit.OK
    return stop.exit if result is Result.STOPPED else result.exit


def _serve(application: Application, stop: StopSignal, context: Context, tidy: ExitStack) -> int:
    from job.outputs.liveness import Heartbeat  # noqa: PLC0415  # one-shot runs have no loop
    from job.service import serve  # noqa: PLC0415

    application.sum_up_idle_cycles()
    health_file = HealthFile(context.config_path, context.environ)
    place = application.choose_place(health_file.places)
    application.join(Heartbeat(health_file, place, wall=time.time, monotonic=time.monotonic))
    _open_port(application, lambda: check(health_file, time.time()), tidy)
    return serve(application, stop)


def _open_port(application: Application, healthy: Callable[[], tuple[bool, str]], tidy: ExitStack) -> None:
    from job.app.output_setup import Port  # noqa: PLC0415  # one-shot runs have no port

    started: list[Event] = []

    def note(event: Event) -> None:
        if isinstance(event, ServiceStarted):
            started.append(event)

    def ready() -> tuple[bool, str]:
        return bool(started), "ready" if started else "starting"

    application.join(note)

    def web() -> "Web":
        from job.outputs.http import Web  # noqa: PLC0415  # slow, and some services serve nothing

        render = application.exposition().render
        return Web(render=render, healthy=healthy, ready=ready, failed=application.failed)

    port = Port(web, lambda: application.metrics, application.emit)
    application.use_port(tidy.enter_context(closing(port)))
