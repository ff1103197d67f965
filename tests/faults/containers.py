"""A container of the test's own: this machine below a layer of its own, as engines make one by overlayfs.

What is written to the layer stays until the test ends. Folders of the host are mounted into it as volumes.
"""

from collections.abc import Mapping
from pathlib import Path

from tests.faults.rig import Done, Rig

_ENTER = """
layer=$1; shift
mkdir -p "$layer/upper" "$layer/work" "$layer/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$layer/upper,workdir=$layer/work" "$layer/root" || exit 99
for shared in /proc /dev; do mount --rbind "$shared" "$layer/root$shared" || exit 99; done
touch "$layer/root/.dockerenv"
while [ "$1" != -- ]; do mkdir -p "$layer/root$2"; mount --bind "$1" "$layer/root$2" || exit 99; shift 2; done
shift
exec chroot "$layer/root" "$@"
"""


class Container:
    """Runs commands of a rig in a container; `layer` is a tmpfs, since a layer cannot lie in what it covers."""

    def __init__(self, rig: Rig, layer: Path) -> None:
        self._rig = rig
        self._layer = layer

    def run(self, *arguments: str, volumes: Mapping[Path, Path]) -> Done:
        """Run a command to its end with these folders of the host, by their paths in the container."""
        mounts = [str(path) for at, host in volumes.items() for path in (host, at)]
        return self._rig.run(
            *arguments, prefix=("unshare", "--mount", "sh", "-c", _ENTER, "sh", str(self._layer), *mounts, "--")
        )

    def once(self, volumes: Mapping[Path, Path]) -> Done:
        """Run one cycle."""
        return self.run("run", "--once", volumes=volumes)

    def holds(self, path: Path) -> bool:
        """Return whether something has this path in the container's own layer."""
        return (self._layer / "upper" / path.relative_to("/")).exists()
