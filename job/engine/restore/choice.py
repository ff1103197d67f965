"""Choose what is restored: walk the folders of a request, and take of each entry what stood there at its time."""

import errno
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from job.core.entry import Kind, join, printable
from job.core.file_systems import NameRules
from job.core.restore_plan import Answer, Sureness, content_at, may_hold_entries
from job.engine.restore.kept import Content, FolderPlaces, KeptTree

_NOTHING = Answer(None, Sureness.NOT_KEPT, "nothing is kept of it")
_FOLDER = Answer(None, Sureness.CERTAIN, "")
_NOT_NOW = Answer(None, Sureness.ABSENT, "it is not in the mirror now")


class Request(NamedTuple):
    """What is to be restored of one pair."""

    paths: Sequence[bytes]
    """Below the source; the empty path for all."""
    at: float | None
    """The time in seconds since the epoch; None for what the mirror has now."""
    overwrite: bool
    suffix: bytes
    """Added to the names of entries in the way, which are renamed, and only if `overwrite`."""


class Choice(NamedTuple):
    """What is restored at one path."""

    path: bytes
    answer: Answer
    content: Content | None = None
    """None if nothing is restored. Folders precede their entries."""
    contents: Sequence[Content] = ()
    """All that is kept of the path."""
    is_empty: bool = False
    """Whether it is a folder of which no entry is kept, so that nothing else makes it."""
    error: OSError | None = None
    """Why it cannot be restored, or not be read."""

    @property
    def kind(self) -> Kind:
        """The kind of what is restored."""
        return self.content.entry.kind if self.content else Kind.FILE

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder that is to be there."""
        return self.content is not None and self.error is None and self.kind is Kind.FOLDER


def choices(kept: KeptTree, request: Request, rules: NameRules | None) -> Iterator[Choice]:
    """Yield what is restored; `rules` are given if the target cannot hold every name.

    What was not there at that time is yielded only if the request names it. Raises `OSError` for an unusable index.
    """
    walk = _Walk(kept, request.at, rules)
    for path in request.paths:
        if path:
            yield from walk.selected(path)
        else:
            yield from walk.below(kept.root, None)


class _Walk:
    def __init__(self, kept: KeptTree, at: float | None, rules: NameRules | None) -> None:
        self._kept, self._at, self._rules = kept, at, rules

    def selected(self, path: bytes) -> Iterator[Choice]:
        """Yield the folders above a path, the path, and all below it."""
        places = self._kept.root
        *above, name = path.split(b"/")
        try:
            for each in above:
                contents = self._contents(places, each)
                folder = _folder_in(contents)
                if folder is not None:
                    yield Choice(join(places.path, each), _FOLDER, folder)
                places = places.below(each, contents)
            contents = self._contents(places, name)
        except OSError as error:
            yield Choice(path, _NOTHING, error=error)
            return
        choice = self._choose(path, contents)
        if choice.kind is Kind.FOLDER:
            yield from self.below(places.below(name, contents), choice.content)
        else:
            yield choice

    def _contents(self, places: FolderPlaces, name: bytes) -> list[Content]:
        """Return what is kept of one name. Raises `OSError` if nothing of it can be read."""
        try:
            found, unreadable = self._kept.contents(places, [name])
        except FileNotFoundError:
            return []
        if name not in found and unreadable:
            raise unreadable[0][1]
        return found.get(name, [])

    def below(self, places: FolderPlaces, content: Content | None) -> Iterator[Choice]:
        """Yield a folder and all below it; the root is not yielded."""
        waiting = [(places, content)]
        while waiting:
            at, folder = waiting.pop()
            try:
                found, unreadable = self._kept.contents(at)
            except OSError as error:
                yield Choice(at.path, _NOTHING, error=error)
                continue
            if folder is not None:
                yield Choice(at.path, _FOLDER, folder, is_empty=not found)
            for name, trouble in unreadable:
                yield Choice(join(at.path, name) if name else at.path, _NOTHING, error=trouble)
            folders: list[tuple[FolderPlaces, Content | None]] = []
            for choice in self._chosen(at, found):
                if choice.kind is Kind.FOLDER:
                    name = choice.path.rpartition(b"/")[2]
                    folders.append((at.below(name, choice.contents), choice.content))
                else:
                    yield choice
            waiting += reversed(folders)

    def _chosen(self, places: FolderPlaces, found: dict[bytes, list[Content]]) -> Iterator[Choice]:
        taken: dict[bytes, bytes] = {}
        for name in sorted(found):
            choice = self._choose(join(places.path, name), found[name])
            if choice.content is None and choice.answer.sureness is not Sureness.NOT_KEPT:
                continue
            why = self._refusal(name, taken) if choice.content else ""
            yield choice._replace(content=None, error=OSError(errno.EINVAL, why)) if why else choice

    def _refusal(self, name: bytes, taken: dict[bytes, bytes]) -> str:
        """Return why the target cannot hold a name beside those that are `taken`; empty if it can."""
        if self._rules is None:
            return ""
        other = taken.setdefault(self._rules.key(name), name)
        if other == name:
            return self._rules.refusal(name)
        return f"the target takes this name and '{printable(other)}', which is restored, for one"

    def _choose(self, path: bytes, contents: Sequence[Content]) -> Choice:
        if not contents:
            return Choice(path, _NOTHING)
        answer = self._answer(contents)
        chosen = next((each for each in contents if each.kept is answer.kept), None)
        if chosen is None and may_hold_entries(answer):
            chosen = _folder_in(contents)  # its entries tell whether it was there
        elif chosen is not None and chosen.entry.kind is Kind.FOLDER:
            chosen = _folder_in(contents)
        return Choice(path, answer, chosen, contents)

    def _answer(self, contents: Sequence[Content]) -> Answer:
        if self._at is not None:
            return content_at([each.kept for each in contents], self._at, self._kept.complete_since)
        own = next((each.kept for each in contents if each.kept.moment is None), None)
        return _NOT_NOW if own is None else Answer(own, Sureness.CERTAIN, "")


def _folder_in(contents: Sequence[Content]) -> Content | None:
    """Return the folder whose metadata is restored: the mirror's, else the newest version."""
    folders = [each for each in contents if each.entry.kind is Kind.FOLDER]
    own = [each for each in folders if each.kept.moment is None]
    return next(iter(own or folders[-1:]), None)
