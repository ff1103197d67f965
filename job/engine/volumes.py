"""The file systems of a mirror, and the tools that write to them. `app/writer_setup.py` makes the tools."""

import os
from collections.abc import Callable, Sequence
from typing import NamedTuple

from job.config.settings import Pair
from job.core.capabilities import Capabilities, NameRules
from job.core.decide import Policy
from job.core.mounts import ByMount
from job.fs.copier import Copier
from job.fs.metadata import MetadataWriter
from job.fs.own_files import MirrorSync
from job.fs.small_copies import PlainCopier


class MountedFileSystem(NamedTuple):
    """A file system that is mounted below the mirror's root, and its tools."""

    point: bytes
    """Path of the mount point below the root."""
    root: int
    """Open descriptor of the mounted root folder."""
    mirror: Capabilities
    copier: Copier
    metadata_writer: MetadataWriter
    sync: MirrorSync
    check: Callable[[], None]
    """Raises `OSError` if the mount point leads elsewhere now."""


class Tools(NamedTuple):
    """The tools for the file system of the mirror's root, and the other file systems in the mirror."""

    copier: Copier
    metadata_writer: MetadataWriter
    sync: MirrorSync
    mounted: Sequence[MountedFileSystem] = ()


class Volume(NamedTuple):
    """One file system of the mirror, with its properties and tools."""

    number: int
    """0 for that of the mirror's root, else its place in `mounted`, from 1."""
    mirror: Capabilities
    copier: Copier
    metadata_writer: MetadataWriter
    sync: MirrorSync
    policy: Policy
    options_key: str
    """Options that determine how an entry is mirrored; a record of another key is compared again."""
    name_rules: NameRules | None
    """None if it holds every name as it is."""
    supports_everything: bool
    """Whether it holds all metadata of files and symlinks."""
    plain: PlainCopier | None
    """Copies plain files; None where every file needs more than that."""


def volumes_of(tools: Tools, mirror: Capabilities, pair: Pair, now_ns: Callable[[], int]) -> ByMount[Volume]:
    """Return the file systems of a mirror by folder path; `mirror` are the capabilities of its root's."""
    special = bool(pair.reflink or pair.rate_limit or pair.verify_copies == "readback")

    def volume(number: int, mirror: Capabilities, of: Tools | MountedFileSystem) -> Volume:
        return Volume(
            number=number,
            mirror=mirror,
            copier=of.copier,
            metadata_writer=of.metadata_writer,
            sync=of.sync,
            policy=policy_of(pair, mirror),
            options_key=pair.options_key + mirror.options_key,
            name_rules=None if mirror.keeps_all_names else NameRules(mirror),
            supports_everything=mirror.keeps_attributes and mirror.symlink_metadata,
            plain=of.copier.plain(now_ns) if mirror.keeps_plain_files and not (special or of.sync.each) else None,
        )

    others = {each.point: volume(number, each.mirror, each) for number, each in enumerate(tools.mounted, 1)}
    root = volume(0, mirror, tools)
    return ByMount(root, others, root.name_rules)


def policy_of(pair: Pair, mirror: Capabilities) -> Policy:
    """Return the part of a decision that is the same for all entries of a file system."""
    return Policy(
        pair.checksum,
        pair.compare == "checksum",
        pair.specials == "recreate",
        fifos=mirror.fifos,
        devices=mirror.devices,
        symlinks=mirror.symlinks,
        hard_links=mirror.hard_links,
        user=os.geteuid() if mirror.owners else None,
    )
