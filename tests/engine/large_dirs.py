"""One huge folder among others, what the index should know of it, and a check that nothing is left to do."""

from dataclasses import replace

from job.core.outcome import Result
from job.core.record import FolderSummary, Record
from job.engine.context import PairContext
from job.store import codec
from job.store.codec import decode_records
from job.store.index import Index
from tests.engine.workshop import HOUR_NS, ListenedIndex, Workshop, assert_mirrored, changed

CHUNK = 16
"""What counts as huge here."""
MANY = 100
"""Files of a folder that is huge here: three shares, 32 parts."""


def fill(shop: Workshop, count: int, start: int = 0) -> None:
    for number in range(start, start + count):
        shop.write(f"crowd/f-{number}", f"content {number}")


def thin_out(shop: Workshop, left: int) -> None:
    for number in range(left, MANY):
        (shop.source / "crowd" / f"f-{number}").unlink()


def summary(shop: Workshop, path: bytes = b"crowd") -> FolderSummary:
    index = Index.open_read_only(str(shop.state))
    assert index is not None
    found = index.summary(path)
    index.close()
    assert found is not None
    return found


def records(shop: Workshop, path: bytes = b"crowd") -> dict[bytes, Record]:
    """Give all records of a folder; none may be in two rows."""
    index = Index.open_read_only(str(shop.state))
    assert index is not None
    found = index.summary(path)
    assert found is not None
    rows = [decode_records(index.rows(path, part)) for part in range(found.parts)]
    beyond = [index.rows(path, part) for part in range(found.parts, 4 * found.parts)]
    index.close()
    assert not any(beyond)
    together = {name: record for row in rows for name, record in row.items()}
    assert len(together) == sum(map(len, rows))
    return together


def noted(shop: Workshop, path: bytes = b"crowd") -> set[bytes]:
    """Give the names in a folder of which the index has something that the mirror does not hold."""
    index = Index.open_read_only(str(shop.state))
    assert index is not None
    found = [codec.decode_unsupported(index.unsupported(path, part)) for part in range(summary(shop, path).parts)]
    index.close()
    return {name for notes in found for name in notes}


class Listened:
    """A cycle in which the questions to the index are counted."""

    def __init__(self, shop: Workshop) -> None:
        self.indexes: list[ListenedIndex] = []
        self.told = shop.cycle(changed(self._listen))

    def _listen(self, context: PairContext) -> PairContext:
        self.indexes.append(ListenedIndex(context.index))
        return replace(context, index=self.indexes[-1])

    @property
    def asked(self) -> tuple[int, int]:
        """How many rows were read, and how many folders remembered anew."""
        [index] = self.indexes
        return index.asked["rows"], index.asked["committed"]


def assert_settled(shop: Workshop) -> None:
    """Insist that mirror and index are as they should be: the next cycle does nothing, audited or not."""
    assert_mirrored(shop)
    assert shop.temps == []
    files = {path.name.encode() for path in (shop.source / "crowd").iterdir() if path.is_symlink() or path.is_file()}
    assert records(shop).keys() == files
    assert summary(shop).entries == len(files) + (shop.source / "crowd" / "pipe").exists()
    assert summary(shop).specials == (shop.source / "crowd" / "pipe").exists()
    for later in (0, 2 * HOUR_NS):
        shop.ahead_ns += later
        again = Listened(shop)
        assert again.asked == (0, 0)
        assert again.told.result is Result.SUCCESS
        assert again.told.copied == {}
        assert again.told.drift == {}
