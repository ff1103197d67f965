"""Modes, owners, times and attributes put on what is open, and what a mirror refuses."""

import errno
import os
import stat
import struct
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from job.fs.dircursor import path_handle
from job.fs.metadata import MetadataRefusal, MetadataWriter
from job.fs.xattrs import PartlyRead, for_new

NOBODY = 65534
Opened = Callable[[str], int]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opened]:
    """Make a file, open it, and close it after the test."""
    with ExitStack() as undo:

        def make(name: str) -> int:
            descriptor = os.open(tmp_path / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            undo.callback(os.close, descriptor)
            return descriptor

        yield make


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    """A file whose metadata is wanted elsewhere."""
    path = tmp_path / "sample"
    path.write_text("content")
    path.chmod(0o640)
    os.utime(path, ns=(1_234_567_890_123_456_789, 987_654_321_987_654_321))
    return path


@pytest.mark.parametrize("mode", [0o000, 0o400, 0o644, 0o777, 0o1755])
def test_a_file_gets_the_mode_it_is_to_have(opened: Opened, sample: Path, mode: int) -> None:
    sample.chmod(mode)
    target = opened("target")

    changed = MetadataWriter().apply(target, sample.stat(), {})

    assert changed
    assert stat.S_IMODE(os.fstat(target).st_mode) == mode


def test_setuid_and_setgid_are_not_carried_over_to_a_file(opened: Opened, sample: Path) -> None:
    sample.chmod(0o6755)
    target = opened("target")

    MetadataWriter().apply(target, sample.stat(), {})

    assert stat.S_IMODE(os.fstat(target).st_mode) == 0o755


def test_setuid_that_somebody_planted_in_the_mirror_is_taken_away(opened: Opened, sample: Path) -> None:
    sample.chmod(0o755)
    target = opened("target")
    MetadataWriter().apply(target, sample.stat(), {})
    os.fchmod(target, 0o6755)

    changed = MetadataWriter().apply(target, sample.stat(), {})

    assert changed
    assert stat.S_IMODE(os.fstat(target).st_mode) == 0o755


def test_a_folder_keeps_its_setgid_bit(tmp_path: Path, folder: int) -> None:
    (tmp_path / "sample").mkdir()
    (tmp_path / "sample").chmod(0o2770)

    MetadataWriter().apply(folder, (tmp_path / "sample").stat(), {})

    assert stat.S_IMODE(os.fstat(folder).st_mode) == 0o2770


@given(st.integers(-(2**31), 2**33), st.integers(0, 999_999_999))
@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_times_are_kept_to_the_nanosecond_before_1970_too(
    opened: Opened, sample: Path, seconds: int, rest_ns: int
) -> None:
    wanted_ns = seconds * 10**9 + rest_ns
    os.utime(sample, ns=(wanted_ns, wanted_ns))
    wanted = sample.stat()
    target = opened("target")

    MetadataWriter().apply(target, wanted, {})

    assert os.fstat(target).st_mtime_ns == wanted.st_mtime_ns


@pytest.mark.needs_root
def test_a_file_gets_its_owner_and_keeps_its_mode_through_that(opened: Opened, sample: Path) -> None:
    os.chown(sample, 1234, 5678)
    target = opened("target")

    MetadataWriter().apply(target, sample.stat(), {})

    found = os.fstat(target)
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (1234, 5678, 0o640)


def test_nothing_changes_where_everything_is_right(opened: Opened, sample: Path) -> None:
    target = opened("target")
    MetadataWriter().apply(target, sample.stat(), {b"user.colour": b"blue"})
    before = os.fstat(target)

    changed = MetadataWriter().apply(target, sample.stat(), {b"user.colour": b"blue"})

    assert not changed
    assert os.fstat(target).st_ctime_ns == before.st_ctime_ns


attributes = st.dictionaries(
    st.from_regex(r"\Auser\.[a-z0-9]{1,20}\Z").map(os.fsencode), st.binary(max_size=100), max_size=4
)


@given(attributes, attributes)
@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_attributes_are_added_changed_and_removed(
    opened: Opened, sample: Path, before: dict[bytes, bytes], wanted: dict[bytes, bytes]
) -> None:
    target = opened("target")
    MetadataWriter().apply(target, sample.stat(), before)

    changed = MetadataWriter().apply(target, sample.stat(), wanted)

    assert MetadataWriter().attributes_of(target) == wanted
    assert changed is (before != wanted)


def test_attributes_that_are_not_known_are_left_alone(opened: Opened, sample: Path) -> None:
    target = opened("target")
    os.setxattr(target, b"user.colour", b"blue")

    MetadataWriter().apply(target, sample.stat(), None)

    assert MetadataWriter().attributes_of(target) == {b"user.colour": b"blue"}


@pytest.mark.needs_root
def test_only_the_users_own_attributes_are_read(opened: Opened) -> None:
    target = opened("target")
    os.setxattr(target, b"trusted.secret", b"1")
    os.setxattr(target, b"user.colour", b"blue")

    assert MetadataWriter().attributes_of(target) == {b"user.colour": b"blue"}


def test_a_link_gets_its_own_times_and_what_it_leads_to_does_not(tmp_path: Path, folder: int, sample: Path) -> None:
    (tmp_path / "treasure").touch()
    before = (tmp_path / "treasure").stat()
    (tmp_path / "link").symlink_to("treasure")

    with path_handle(b"link", folder) as place:
        changed = MetadataWriter().apply_at(place, sample.stat())
        again = MetadataWriter().apply_at(place, sample.stat())

    assert (changed, again) == (True, False)
    assert (tmp_path / "link").lstat().st_mtime_ns == sample.stat().st_mtime_ns
    assert (tmp_path / "treasure").stat().st_mtime_ns == before.st_mtime_ns


def told_by_nobody(work: Callable[[MetadataWriter], object]) -> list[MetadataRefusal]:
    """Do some work as an ordinary user, and give what is told of it."""
    metadata_writer, groups = MetadataWriter(), os.getgroups()
    os.setgroups([])
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        work(metadata_writer)
        return metadata_writer.take_refusals()
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


@pytest.mark.needs_root
class TestAnOrdinaryUser:
    """Who may not give files away."""

    def test_is_told_once_that_owners_are_not_kept(self, opened: Opened, sample: Path) -> None:
        wanted, targets = sample.stat(), [opened(f"target-{number}") for number in range(3)]
        for target in targets:
            os.fchown(target, NOBODY, NOBODY)

        told = told_by_nobody(lambda metadata_writer: [metadata_writer.apply(target, wanted, {}) for target in targets])

        needed = f"this needs root (CAP_CHOWN), and Truecopy runs as user {NOBODY} without it"
        closed = "the owner or group could not be kept, and nobody else gets the rights that were theirs"
        assert told == [MetadataRefusal("owner", needed), MetadataRefusal("mode", closed)]
        for target in targets:
            assert stat.S_IMODE(os.fstat(target).st_mode) == 0o600
            assert os.fstat(target).st_mtime_ns == sample.stat().st_mtime_ns

    def test_is_told_of_each_kind_that_the_mirror_refuses(self, opened: Opened, sample: Path) -> None:
        strange = opened("target")  # belongs to root
        os.utime(strange, ns=(0, 0))
        os.chown(sample, 1234, 5678)
        wanted = sample.stat()

        told = told_by_nobody(lambda metadata_writer: metadata_writer.apply(strange, wanted, {b"user.colour": b"blue"}))

        assert [each.what for each in told] == ["owner", "mode", "xattr", "times"]

    def test_can_give_attributes_to_a_file_that_is_to_be_read_only(self, opened: Opened, sample: Path) -> None:
        target = opened("target")
        sample.chmod(0o444)
        os.fchown(target, NOBODY, NOBODY)
        wanted = sample.stat()
        told_by_nobody(lambda metadata_writer: metadata_writer.apply(target, wanted, {}))

        told = told_by_nobody(lambda metadata_writer: metadata_writer.apply(target, wanted, {b"user.colour": b"blue"}))

        assert MetadataWriter().attributes_of(target) == {b"user.colour": b"blue"}
        assert stat.S_IMODE(os.fstat(target).st_mode) == 0o444
        assert [each.what for each in told] == ["owner"]

    def test_hears_no_news_twice(self, opened: Opened, sample: Path) -> None:
        target = opened("target")
        os.fchown(target, NOBODY, NOBODY)
        wanted = sample.stat()

        def twice(metadata_writer: MetadataWriter) -> None:
            metadata_writer.apply(target, wanted, {})
            assert metadata_writer.take_refusals()
            metadata_writer.apply(target, wanted, {})

        assert told_by_nobody(twice) == []


def test_an_attribute_that_does_not_fit_beside_the_file_is_told_and_the_rest_is_kept(
    opened: Opened, sample: Path
) -> None:
    metadata_writer = MetadataWriter()
    target = opened("target")

    metadata_writer.apply(target, sample.stat(), {b"user.colour": b"x" * 70_000})

    assert [refused.what for refused in metadata_writer.take_refusals()] == ["xattr"]
    assert os.fstat(target).st_mtime_ns == sample.stat().st_mtime_ns


def test_attributes_of_users_are_kept_where_those_of_the_kernel_are_not_supported(
    opened: Opened, sample: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = os.setxattr

    def picky(descriptor: int, name: bytes, value: bytes) -> None:
        if not name.startswith(b"user."):
            raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))
        really(descriptor, name, value)

    monkeypatch.setattr(os, "setxattr", picky)
    metadata_writer, targets = MetadataWriter(), [opened("first"), opened("second")]

    metadata_writer.apply(targets[0], sample.stat(), {b"trusted.note": b"1"})
    metadata_writer.apply(targets[1], sample.stat(), {b"user.colour": b"blue"})

    assert [refused.what for refused in metadata_writer.take_refusals()] == ["xattr"]
    assert metadata_writer.attributes_of(targets[1]) == {b"user.colour": b"blue"}


def test_an_error_of_another_kind_is_no_refusal(opened: Opened, sample: Path) -> None:
    closed = os.dup(opened("target"))
    os.close(closed)

    with pytest.raises(OSError, match="Bad file descriptor"):
        MetadataWriter().apply(closed, sample.stat(), {})


# Fresh temps ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o000, 0o600, 0o644, 0o777, 0o6755])
def test_a_temp_is_dressed_as_apply_would_do_it(opened: Opened, sample: Path, mode: int) -> None:
    sample.chmod(mode)
    dressed, applied = opened("dressed"), opened("applied")

    made = MetadataWriter().set_initial(dressed, sample.stat(), {b"user.colour": b"blue"})
    MetadataWriter().apply(applied, sample.stat(), {b"user.colour": b"blue"})

    left, right = os.fstat(dressed), os.fstat(applied)
    assert (left.st_mode, left.st_uid, left.st_gid) == (right.st_mode, right.st_uid, right.st_gid)
    assert (left.st_atime_ns, left.st_mtime_ns) == (right.st_atime_ns, right.st_mtime_ns)
    for descriptor in (dressed, applied):
        os.fchmod(descriptor, 0o600)  # an ordinary user may not read the attributes of what they may not read
    assert (
        MetadataWriter().attributes_of(dressed) == MetadataWriter().attributes_of(applied) == {b"user.colour": b"blue"}
    )
    assert (made.st_ino, made.st_size, made.st_mtime_ns) == (left.st_ino, left.st_size, left.st_mtime_ns)


@pytest.mark.needs_root
def test_a_temp_in_a_folder_that_hands_down_its_group_gets_the_group_it_is_to_have(
    opened: Opened, sample: Path, tmp_path: Path
) -> None:
    (tmp_path / "shared").mkdir()
    os.chown(tmp_path / "shared", 0, 5678)
    (tmp_path / "shared").chmod(0o2770)
    target = opened("shared/target")
    assert os.fstat(target).st_gid == 5678

    MetadataWriter().set_initial(target, sample.stat(), {})

    found = os.fstat(target)
    assert (found.st_gid, stat.S_IMODE(found.st_mode)) == (sample.stat().st_gid, 0o640)


@pytest.mark.needs_root
@pytest.mark.needs_tool("setfacl")
def test_a_temp_in_a_folder_with_a_default_acl_gets_the_mode_it_is_to_have(
    opened: Opened, sample: Path, tmp_path: Path
) -> None:
    (tmp_path / "shared").mkdir()
    subprocess.run(["setfacl", "-d", "-m", "u:1234:rwx,g::rwx,o::rx", str(tmp_path / "shared")], check=True)
    target = opened("shared/target")

    MetadataWriter().set_initial(target, sample.stat(), {})

    assert stat.S_IMODE(os.fstat(target).st_mode) == 0o640


@pytest.mark.needs_root
def test_a_temp_belongs_to_its_owner_before_anybody_else_may_read_it(
    opened: Opened, sample: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.chown(sample, 1234, 5678)
    target, order = opened("target"), list[str]()
    real_chown, real_chmod = os.fchown, os.fchmod

    def chown(descriptor: int, uid: int, gid: int) -> None:
        order.append("owner")
        real_chown(descriptor, uid, gid)

    def chmod(descriptor: int, mode: int) -> None:
        order.append("mode")
        real_chmod(descriptor, mode)

    monkeypatch.setattr(os, "fchown", chown)
    monkeypatch.setattr(os, "fchmod", chmod)

    MetadataWriter().set_initial(target, sample.stat(), {})

    assert order == ["owner", "mode"]
    assert (os.fstat(target).st_uid, os.fstat(target).st_gid) == (1234, 5678)


@pytest.mark.needs_root
def test_what_a_mirror_refuses_of_a_temp_is_told_once_for_each_kind(opened: Opened, sample: Path) -> None:
    os.chown(sample, 1234, 5678)
    wanted, mine, strange = sample.stat(), opened("mine"), opened("strange")
    os.fchown(mine, NOBODY, NOBODY)

    told = told_by_nobody(
        lambda metadata_writer: [metadata_writer.set_initial(each, wanted, {}) for each in (mine, mine, strange)]
    )

    assert [each.what for each in told] == ["owner", "mode", "times"]
    assert stat.S_IMODE(os.fstat(mine).st_mode) == 0o600


def test_an_error_of_another_kind_is_no_refusal_of_a_temp_either(opened: Opened, sample: Path) -> None:
    closed = os.dup(opened("target"))
    os.close(closed)

    with pytest.raises(OSError, match="Bad file descriptor"):
        MetadataWriter().set_initial(closed, sample.stat(), {})


# Rights while metadata change -----------------------------------------------------------------------------------------

ACCESS, GROUP_BITS = b"system.posix_acl_access", 0o070
_ANYBODY = 0xFFFFFFFF


def acl(user: int, group: int, mask: int) -> bytes:
    """Give an ACL in the kernel's form: the user 1234 may do what `user` says, all others nothing."""
    entries = [(1, 6, _ANYBODY), (2, user, 1234), (4, group, _ANYBODY), (16, mask, _ANYBODY), (32, 0, _ANYBODY)]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *each) for each in entries)


def test_the_mask_of_an_acl_that_is_removed_is_never_what_the_group_may_do(
    opened: Opened, sample: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, modes = opened("target"), list[int]()
    os.setxattr(target, ACCESS, acl(6, 0, 6))
    really = os.removexattr

    def remove(descriptor: int, name: bytes) -> None:
        really(descriptor, name)
        modes.append(stat.S_IMODE(os.fstat(descriptor).st_mode))

    monkeypatch.setattr(os, "removexattr", remove)

    MetadataWriter().apply(target, sample.stat(), {})

    assert modes == [0o600]
    assert stat.S_IMODE(os.fstat(target).st_mode) == 0o640


@pytest.mark.needs_root
def test_nobody_else_has_a_right_while_owner_and_group_change(
    opened: Opened, sample: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.chown(sample, 1234, 5678)
    sample.chmod(0o600)
    target, modes = opened("target"), list[int]()
    os.fchmod(target, 0o664)
    really = os.fchown

    def chown(descriptor: int, uid: int, gid: int) -> None:
        really(descriptor, uid, gid)
        modes.append(stat.S_IMODE(os.fstat(descriptor).st_mode))

    monkeypatch.setattr(os, "fchown", chown)

    MetadataWriter(owners=True).apply(target, sample.stat(), {})

    assert modes == [0o600]


@pytest.mark.parametrize("put", [MetadataWriter.apply, MetadataWriter.set_initial])
def test_an_acl_that_cannot_be_removed_grants_nothing(
    opened: Opened, sample: Path, monkeypatch: pytest.MonkeyPatch, put: Callable[..., object]
) -> None:
    target = opened("target")
    os.setxattr(target, ACCESS, acl(6, 0, 0))

    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "removexattr", refuse)
    metadata_writer = MetadataWriter()

    put(metadata_writer, target, sample.stat(), {})

    assert os.fstat(target).st_mode & GROUP_BITS == 0
    assert "acl" in [each.what for each in metadata_writer.take_refusals()]


@pytest.mark.parametrize("put", [MetadataWriter.apply, MetadataWriter.set_initial])
def test_an_acl_that_the_mirror_refuses_leaves_the_group_its_own_rights(
    opened: Opened, sample: Path, monkeypatch: pytest.MonkeyPatch, put: Callable[..., object]
) -> None:
    target = opened("target")
    sample.chmod(0o660)

    def refuse(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(os, "setxattr", refuse)

    put(MetadataWriter(), target, sample.stat(), {ACCESS: acl(6, 4, 6)})

    assert stat.S_IMODE(os.fstat(target).st_mode) == 0o640


def test_where_it_is_unknown_whether_there_is_an_acl_the_group_gets_what_all_others_get(
    opened: Opened, sample: Path
) -> None:
    sample.chmod(0o664)
    unknown = PartlyRead()
    unknown.acl_unknown = True
    target = opened("target")

    MetadataWriter().set_initial(target, sample.stat(), for_new(unknown))

    assert stat.S_IMODE(os.fstat(target).st_mode) == 0o644
