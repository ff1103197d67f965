"""The tables of all events and all metrics, as Markdown, for the docs. Pure; a test keeps the docs equal to them."""

from collections.abc import Iterable

from job.core.counts import Tally
from job.core.metric_names import BUILD_INFO, OWN_SERIES, PAIR_COUNTERS, PAIR_GAUGES, Series
from job.events import brake, pair, restore, service
from job.events.base import Event
from job.events.text import tally_fields

EVERY_SERIES = (*PAIR_COUNTERS, *PAIR_GAUGES, *OWN_SERIES, BUILD_INFO)


def every_event() -> list[type[Event]]:
    """List every event in the order of the files."""
    modules = (service, pair, brake, restore)
    kinds = [kind for module in modules for kind in vars(module).values() if isinstance(kind, type)]
    return [kind for kind in kinds if kind.__module__ in {module.__name__ for module in modules}]


def catalogue() -> str:
    """Give the table of every event that is logged."""
    rows = [
        (f"`{kind.name}`", kind.level, ", ".join(f"`{name}`" for name in field_names(kind)), _meaning(kind))
        for kind in every_event()
        if kind.level is not None
    ]
    return _table(("event", "level", "fields", "meaning"), rows)


def metric_catalogue() -> str:
    """Give the table of every metric."""
    rows = [(f"`{each.full_name}`", each.type, _labels(each), each.meaning) for each in EVERY_SERIES]
    return _table(("metric", "type", "labels", "meaning"), rows)


def field_names(kind: type[Event]) -> list[str]:
    """Name the fields of an event's log line, besides `timestamp`, `level`, `event` and `message`."""
    names: list[str] = []
    for name, type_ in kind.fields.items():
        names += list(tally_fields(Tally())) if type_ is Tally else [name]
        if type_ is bytes:
            names.append(f"{name}_base64")
    return names


def _meaning(kind: type[Event]) -> str:
    return (kind.__doc__ or "").partition("\n\n")[0].replace("\n    ", " ")


def _labels(series: Series) -> str:
    if series is BUILD_INFO:
        return "`version`, `python`"
    shown = [f"`{label}`" for label in series.labels]
    if series.values:
        shown[-1] += ": " + ", ".join(series.values)
    return ", ".join(shown)


def _table(heads: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> str:
    lines = [heads, tuple("---" for _ in heads), *rows]
    return "".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |\n" for line in lines)
