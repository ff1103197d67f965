"""Each cell of the table in tests/fidelity/README.md is measured again.

To record other cells: `python tests/fidelity/record.py`, then `make docs`.
"""

from contextlib import closing
from pathlib import Path

import pytest

from job.store.index import Index
from tests.faults.rig import Rig
from tests.fidelity import foreign
from tests.fidelity.kinds import ROWS
from tests.fidelity.sight import KEPT, LOST, RECORDED, REFUSED, worst
from tests.fidelity.table import COLUMNS, Column, judged, looked_up, plant, read


@pytest.mark.parametrize(
    ("name", "column"), [pytest.param(*item, id=item[0], marks=item[1].marks) for item in COLUMNS.items()]
)
def test_what_a_mirror_keeps_is_what_the_table_says_and_still_so_after_an_audit(
    tmp_path: Path, name: str, column: Column
) -> None:
    with column.mirrored(tmp_path) as (rig, failed):
        assert looked_up(rig, failed) == read()[name]

        audit = rig.once(prefix=column.prefix)

        assert audit.counts[:2] == (0, 0), audit.stdout
        assert looked_up(rig, frozenset(audit.failed)) == read()[name]


def test_the_table_has_every_file_system_and_every_kind_of_metadata() -> None:
    table = read()

    assert list(table) == list(COLUMNS)
    assert [name for name, cells in table.items() if list(cells) != list(ROWS)] == []


@pytest.mark.needs_root
def test_nothing_is_kept_that_is_not_in_the_mirror_and_nothing_refused_that_the_job_did_not_name(
    tmp_path: Path,
) -> None:
    rig = Rig(tmp_path)
    plant(rig.source)

    with closing(Index.empty()) as index:
        assert judged(rig, index, frozenset()) == dict.fromkeys(ROWS, LOST)


@pytest.mark.parametrize("name", [pytest.param("network storage like FAT", marks=foreign.NAS)])
def test_nothing_is_recorded_that_is_not_in_the_index(tmp_path: Path, name: str) -> None:
    wanted = {words: cell if cell in {KEPT, REFUSED} else LOST for words, cell in read()[name].items()}

    with COLUMNS[name].mirrored(tmp_path) as (rig, failed), closing(Index.empty()) as index:
        found = judged(rig, index, failed)

    assert found == wanted


def test_several_entries_are_as_badly_off_as_the_worst_of_them() -> None:
    assert worst([KEPT, RECORDED]) == RECORDED
    assert worst([RECORDED, REFUSED, KEPT]) == REFUSED
    assert worst([LOST, REFUSED]) == LOST
