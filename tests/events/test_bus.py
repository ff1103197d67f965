"""One stream of events: in order, to everybody, whatever a listener does."""

from dataclasses import dataclass, field

from job.events.base import Event
from job.events.bus import Bus
from job.events.service import OutputFailed, ServiceStopped


@dataclass
class Notebook:
    """A listener that writes down what it hears."""

    heard: list[Event] = field(default_factory=list)

    def __call__(self, event: Event) -> None:
        self.heard.append(event)

    @property
    def failures(self) -> list[OutputFailed]:
        return [event for event in self.heard if isinstance(event, OutputFailed)]


@dataclass
class Breakable:
    """A listener that raises while it is broken."""

    output: str = "textfile"
    broken: bool = True
    tried: int = 0

    def __call__(self, event: Event) -> None:
        del event
        self.tried += 1
        if self.broken:
            raise RuntimeError("no ink")


def a_fact(reason: str = "SIGTERM") -> ServiceStopped:
    return ServiceStopped(reason=reason)


def test_everybody_hears_everything_in_order() -> None:
    first, second = Notebook(), Notebook()
    bus = Bus([first])
    bus.join(second)

    bus.emit(a_fact("one"))
    bus.emit(a_fact("two"))

    assert first.heard == second.heard == [a_fact("one"), a_fact("two")]


def test_a_listener_that_raises_keeps_no_event_from_the_others() -> None:
    before, after = Notebook(), Notebook()
    bus = Bus([before, Breakable(), after])

    bus.emit(a_fact())

    assert a_fact() in before.heard
    assert a_fact() in after.heard


def test_an_outage_is_told_once_by_the_name_of_the_output() -> None:
    notebook, broken = Notebook(), Breakable()
    bus = Bus([broken, notebook])

    for _ in range(5):
        bus.emit(a_fact())

    [told] = notebook.failures
    assert (told.output, told.error) == ("textfile", "Breakable: RuntimeError: no ink")
    assert broken.tried >= 5


def test_the_next_outage_is_told_again() -> None:
    notebook, broken = Notebook(), Breakable()
    bus = Bus([broken, notebook])
    bus.emit(a_fact())
    broken.broken = False
    bus.emit(a_fact())

    broken.broken = True
    bus.emit(a_fact())

    assert len(notebook.failures) == 2


def test_two_broken_listeners_are_both_told_of_and_end_in_no_circle() -> None:
    notebook = Notebook()
    bus = Bus([Breakable("one"), notebook, Breakable("other")])

    bus.emit(a_fact())
    bus.emit(a_fact())

    assert sorted(told.output for told in notebook.failures) == ["one", "other"]


def test_a_bus_without_listeners_is_silent() -> None:
    Bus().emit(a_fact())


def test_an_output_may_tell_of_its_own_failure() -> None:
    notebook = Notebook()

    Bus([notebook]).failed("log_file", "disk full")

    assert notebook.heard == [OutputFailed(output="log_file", error="disk full")]
