"""The table in the README says what is measured: no cell of it can go stale."""

from pathlib import Path

import pytest

from tests.fidelity.kinds import ROWS
from tests.fidelity.sight import KEPT, LOST, RECORDED, REFUSED, worst
from tests.fidelity.table import COLUMNS, Column, read


@pytest.mark.parametrize(
    ("name", "column"), [pytest.param(*item, id=item[0], marks=item[1].marks) for item in COLUMNS.items()]
)
def test_what_a_mirror_keeps_is_what_the_table_says(tmp_path: Path, name: str, column: Column) -> None:
    assert column.measured(tmp_path) == read()[name]


def test_the_table_has_every_file_system_and_every_kind_of_metadata() -> None:
    table = read()

    assert list(table) == list(COLUMNS)
    assert [name for name, cells in table.items() if list(cells) != list(ROWS)] == []


def test_several_entries_are_as_badly_off_as_the_worst_of_them() -> None:
    assert worst([KEPT, RECORDED]) == RECORDED
    assert worst([RECORDED, REFUSED, KEPT]) == REFUSED
    assert worst([LOST, REFUSED]) == LOST
