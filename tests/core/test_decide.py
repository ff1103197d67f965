"""Every branch of the decision about one entry, each with the reason that people read."""

import stat
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from job.core.decide import Action, Decision, Policy, decide, is_unchanged
from job.core.entry import Entry, Kind
from job.core.outcome import Drift
from job.core.record import Record
from tests.core import samples
from tests.core.samples import LONG_AGO_NS, SHA256, a_fifo, a_file, a_folder, a_link, a_mirror, a_record

AUTO = Policy("sha256", read_everything=False)
READ_ALL = Policy("sha256", read_everything=True)
AS_ROOT = Policy("sha256", read_everything=False, user=0)
LATER_NS = LONG_AGO_NS + 1
VERY_YOUNG = "it was very young when it was last read, or done under other options"


@dataclass(frozen=True)
class Case:
    """One row of the truth table. By default nothing changed at all."""

    source: Entry = field(default_factory=a_file)
    mirror: Entry | None = field(default_factory=a_mirror)
    record: Record | None = field(default_factory=lambda: a_record(a_file(), a_mirror()))
    policy: Policy = AUTO


def a_link_case(source: Entry, *, racy: bool = False, policy: Policy = AUTO, mirror_inode: int = 99) -> Case:
    record = a_record(a_link(), a_link(inode=99), "", racy=racy)
    return Case(source, a_link(inode=mirror_inode), record, policy)


TABLE = {
    "unchanged": (Case(), Action.KEEP, None),
    "folder": (Case(a_folder(), a_folder(), None), Action.KEEP, None),
    "new folder": (Case(a_folder(), None, None), Action.MAKE_FOLDER, None),
    "the mirror has a file here": (Case(a_folder(), a_mirror(), None), Action.MAKE_FOLDER, None),
    "the mirror has a symlink here": (Case(a_folder(), a_link()), Action.MAKE_FOLDER, None),
    "a FIFO, socket or device": (Case(a_fifo()), Action.SKIP_SPECIAL, None),
    "new": (Case(mirror=None, record=None), Action.COPY, None),
    "missing in the mirror": (Case(mirror=None), Action.COPY, Drift.MISSING),
    "the mirror has a folder here": (Case(mirror=a_folder()), Action.COPY, Drift.REPLACED),
    "the mirror has a special here": (Case(mirror=a_fifo(), record=None), Action.COPY, None),
    "contents are always compared": (Case(policy=READ_ALL), Action.COMPARE_BOTH, Drift.CONTENT),
    "another checksum algorithm is configured": (
        Case(record=a_record(a_file(), a_mirror(), "md5:00")),
        Action.COMPARE_BOTH,
        Drift.CONTENT,
    ),
    "size changed": (Case(a_file(size=6)), Action.COPY, None),
    "modified": (Case(a_file(mtime_ns=LATER_NS)), Action.COPY, None),
    VERY_YOUNG: (
        Case(record=a_record(a_file(), a_mirror(), racy=True)),
        Action.COMPARE_SOURCE,
        None,
    ),
    "mode changed": (Case(a_file(mode=stat.S_IFREG | 0o600)), Action.COMPARE_SOURCE, None),
    "owner changed": (Case(a_file(gid=7)), Action.COMPARE_SOURCE, None),
    "ctime moved though size and mtime did not": (Case(a_file(ctime_ns=LATER_NS)), Action.COMPARE_SOURCE, None),
    "the mirror has another size and the index does not know it": (
        Case(mirror=a_mirror(size=4), record=None),
        Action.COPY,
        None,
    ),
    "the index does not know it": (Case(record=None), Action.COMPARE_BOTH, None),
    "the mirror was changed": (Case(mirror=a_mirror(size=4)), Action.COPY, Drift.CONTENT),
    "the mirror is not as it was left": (
        Case(mirror=a_mirror(mtime_ns=LATER_NS)),
        Action.COMPARE_BOTH,
        Drift.CONTENT,
    ),
}


@pytest.mark.parametrize("reason", TABLE)
def test_every_reason_leads_to_its_action(reason: str) -> None:
    case, action, drift = TABLE[reason]

    step = decide(b"folder/name", case.source, case.mirror, case.record, case.policy)

    assert step == Decision(action, case.source, reason, drift)


FOREIGN = "the mirror's file belongs to user 7 and is not the one that was left there"
MORE = [
    (Case(a_file(inode=12)), Action.COMPARE_SOURCE, "ctime moved though size and mtime did not", None),
    (Case(a_file(size=6), a_mirror(size=4)), Action.COPY, "modified", None),
    (Case(mirror=a_mirror(inode=98, size=4)), Action.COPY, "the mirror was changed", Drift.REPLACED),
    (Case(mirror=a_mirror(inode=98)), Action.COMPARE_BOTH, "the mirror is not as it was left", Drift.REPLACED),
    (Case(a_file(size=6), policy=READ_ALL), Action.COMPARE_BOTH, "contents are always compared", Drift.CONTENT),
    (Case(a_link(), a_file(), None), Action.COPY, "the mirror has a file here", None),
    (Case(a_link(), a_mirror()), Action.COPY, "the mirror has a file here", None),
    (Case(a_link(), a_link(size=9), None), Action.COMPARE_BOTH, "the index does not know it", None),
    (a_link_case(a_link()), Action.KEEP, "unchanged", None),
    (a_link_case(a_link(), racy=True), Action.COMPARE_BOTH, VERY_YOUNG, None),
    (a_link_case(a_link(), policy=READ_ALL), Action.COMPARE_BOTH, "contents are always compared", Drift.CONTENT),
    (a_link_case(a_link(uid=7)), Action.COMPARE_BOTH, "owner changed", None),
    (Case(mirror=a_mirror(uid=7, ctime_ns=8), policy=AS_ROOT), Action.COPY, FOREIGN, Drift.REPLACED),
    (Case(a_file(ctime_ns=8), a_mirror(inode=98, uid=7), policy=AS_ROOT), Action.COPY, FOREIGN, None),
    (Case(mirror=a_mirror(uid=7), record=None, policy=AS_ROOT), Action.COPY, FOREIGN, None),
    (Case(mirror=a_mirror(uid=7), record=None), Action.COMPARE_BOTH, "the index does not know it", None),
    (
        Case(mirror=a_mirror(uid=0), record=None, policy=AS_ROOT),
        Action.COMPARE_BOTH,
        "the index does not know it",
        None,
    ),
    (Case(mirror=a_mirror(), record=None, policy=AS_ROOT), Action.COMPARE_BOTH, "the index does not know it", None),
    (Case(a_file(uid=7), policy=AS_ROOT), Action.COMPARE_SOURCE, "owner changed", None),
    (
        Case(a_file(uid=7), a_mirror(mtime_ns=LATER_NS), policy=AS_ROOT),
        Action.COMPARE_BOTH,
        "the mirror is not as it was left",
        Drift.CONTENT,
    ),
    (a_link_case(a_link(), mirror_inode=98), Action.COMPARE_BOTH, "the mirror is not as it was left", Drift.REPLACED),
]


@pytest.mark.parametrize(("case", "action", "reason", "drift"), MORE)
def test_mixed_cases_are_decided_by_what_is_surest(
    case: Case, action: Action, reason: str, drift: Drift | None
) -> None:
    step = decide(b"name", case.source, case.mirror, case.record, case.policy)

    assert step == Decision(action, case.source, reason, drift)


def test_a_link_needs_no_checksum_of_the_algorithm_in_force() -> None:
    case = a_link_case(a_link(), policy=Policy("blake3", read_everything=False))

    assert decide(b"name", case.source, case.mirror, case.record, case.policy).action is Action.KEEP


WITH_SPECIALS = Policy("sha256", read_everything=False, specials=True)
SPECIALS = {
    "new": (Case(a_fifo(), None, None, WITH_SPECIALS), Action.COPY),
    "unchanged": (Case(a_fifo(), a_fifo(), a_record(a_fifo(), a_fifo(), ""), WITH_SPECIALS), Action.KEEP),
    "the index does not know it": (Case(a_fifo(), a_fifo(), None, WITH_SPECIALS), Action.COMPARE_BOTH),
    "the mirror has a file here": (Case(a_fifo(), a_mirror(), None, WITH_SPECIALS), Action.COPY),
    "the mirror has a special here": (Case(a_file(), a_fifo(), None, WITH_SPECIALS), Action.COPY),
}


@pytest.mark.parametrize("reason", SPECIALS)
def test_special_files_are_decided_like_links_if_they_are_wanted(reason: str) -> None:
    case, action = SPECIALS[reason]

    step = decide(b"name", case.source, case.mirror, case.record, case.policy)

    assert (step.action, step.reason) == (action, reason)


@pytest.mark.parametrize("path", [b".truecopy", b"folder/.truecopy-tmp-1"])
@pytest.mark.parametrize("source", [a_file(), a_folder(), a_fifo()])
def test_a_reserved_name_is_refused_whatever_has_it(path: bytes, source: Entry) -> None:
    assert decide(path, source, None, None, AUTO).action is Action.REFUSE_NAME


policy = st.builds(Policy, st.sampled_from(["sha256", "blake3", "md5"]), st.booleans())


@st.composite
def near_cases(draw: st.DrawFn) -> Case:
    """Draw sides that mostly agree, since everything is decided where little differs."""
    source, mirror = draw(samples.entries), draw(samples.entries)
    record = Record(source, mirror, SHA256, draw(st.booleans()))
    fields = [field for field in Entry._fields if field != "name"]
    for field_name in draw(st.lists(st.sampled_from(fields), max_size=2)):
        other = draw(samples.entries)
        if draw(st.booleans()):
            source = source._replace(**{field_name: getattr(other, field_name)})
        else:
            mirror = mirror._replace(**{field_name: getattr(other, field_name)})
    return Case(source, draw(st.sampled_from([mirror, None])), draw(st.sampled_from([record, None])), draw(policy))


@given(st.one_of(near_cases(), st.builds(Case, samples.entries, samples.entries, samples.records, policy)))
def test_nothing_is_kept_whose_source_or_mirror_is_not_exactly_as_recorded(case: Case) -> None:
    step = decide(b"name", case.source, case.mirror, case.record, case.policy)

    if step.action is Action.KEEP and case.source.kind is not Kind.FOLDER:
        assert case.record is not None
        assert (case.record.source, case.record.mirror) == (case.source, case.mirror)
        assert not case.record.racy
        assert not case.policy.read_everything
    if step.action is Action.COMPARE_SOURCE:
        # Only a mirror that is exactly as it was left may be vouched for by the index.
        assert case.record is not None
        assert case.record.mirror == case.mirror


@given(st.one_of(near_cases(), st.builds(Case, samples.entries, samples.entries, samples.records, policy)))
def test_specials_are_never_opened_and_folders_never_copied(case: Case) -> None:
    step = decide(b"name", case.source, case.mirror, case.record, case.policy)

    if case.source.kind is Kind.SPECIAL:
        assert case.policy.specials or step.action is Action.SKIP_SPECIAL
    if case.source.kind is Kind.FOLDER:
        assert step.action in {Action.KEEP, Action.MAKE_FOLDER}
    assert step.entry == case.source
    assert step.reason


names = st.sampled_from([b"name", b".truecopy", b".truecopy-tmp-1"])


@given(st.one_of(near_cases(), st.builds(Case, samples.entries, samples.entries, samples.records, policy)), names)
def test_what_is_as_known_would_be_kept_and_is_a_file_or_link_of_the_user(case: Case, name: bytes) -> None:
    source, record = case.source._replace(name=name), case.record
    if record is not None:
        record = record._replace(source=record.source._replace(name=name))
    policy = case.policy._replace(read_everything=False)

    if record is not None and is_unchanged(source, case.mirror, record, policy):
        assert decide(name, source, case.mirror, record, policy).action is Action.KEEP
        assert source.kind in {Kind.FILE, Kind.SYMLINK}
        assert not name.startswith(b".truecopy")


def test_an_unchanged_file_and_an_unchanged_link_are_as_known() -> None:
    assert is_unchanged(a_file(), a_mirror(), a_record(a_file(), a_mirror()), AUTO)
    assert is_unchanged(a_link(), a_link(inode=99), a_record(a_link(), a_link(inode=99), ""), AUTO)


@pytest.mark.parametrize("reason", [reason for reason in TABLE if reason != "unchanged"])
def test_nothing_that_wants_a_decision_is_as_known(reason: str) -> None:
    case = TABLE[reason]

    if case[0].record is not None and not case[0].policy.read_everything:
        assert not is_unchanged(case[0].source, case[0].mirror, case[0].record, case[0].policy)
