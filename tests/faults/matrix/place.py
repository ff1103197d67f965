"""The wrong place: a source or a mirror that is not mounted, and links planted in a mirror."""

from tests.faults.matrix.finding import Finding
from tests.faults.matrix.row import Row, row
from tests.faults.matrix.scene import Scene, content
from tests.faults.tampering import mounted as memory


@row("8", "the source is empty: not mounted", "mount")
def source_empty(scene: Scene) -> Finding:
    with memory("tmpfs", scene.source, "-t", "tmpfs"):
        scene.fill("content")
        scene.first_run()
    before = scene.held(scene.mirror)
    outcome = scene.run()
    after = scene.held(scene.mirror)
    gone = [name for name in before if name.startswith("healthy-") and after.get(name) != before[name]]
    wrong = (f"{len(gone)} of 20 files are gone",) if gone else ()
    return outcome.finding(wrong=wrong, lesser=("an empty source was taken for a right one",))


@row("9", "the mirror is not mounted", "mount")
def mirror_bare(scene: Scene) -> Finding:
    scene.fill("content")
    with memory("tmpfs", scene.mirror, "-t", "tmpfs"):
        scene.first_run()
    outcome = scene.run()
    written = [path.name for path in scene.mirror.iterdir()]
    wrong = (f"{len(written)} entries were written to the bare mount point",) if written else ()
    return outcome.finding(wrong=wrong, lesser=("it was not told",))


@row("11", "a link planted in the mirror for a folder")
def planted_folder(scene: Scene) -> Finding:
    (scene.source / "folder").mkdir()
    file = scene.source / "folder" / "file"
    file.write_text("old")
    (scene.outside / "file").write_text("precious")
    scene.first_run()
    (scene.mirror / "folder" / "file").unlink()
    (scene.mirror / "folder").rmdir()
    (scene.mirror / "folder").symlink_to(scene.outside)
    file.write_text("newer")
    return _judged_planted(scene, "file", "folder/file", "folder")


@row("12", "a link planted in the mirror for a file")
def planted_file(scene: Scene) -> Finding:
    file = scene.source / "file"
    file.write_text("old")
    (scene.outside / "victim").write_text("precious")
    scene.first_run()
    (scene.mirror / "file").unlink()
    (scene.mirror / "file").symlink_to(scene.outside / "victim")
    file.write_text("newer")
    return _judged_planted(scene, "victim", "file", "file")


def _judged_planted(scene: Scene, victim: str, path: str, link: str) -> Finding:
    outcome = scene.run()
    wrong = () if scene.held(scene.outside) == {victim: b"precious"} else ("something outside was overwritten",)
    copied = not (scene.mirror / link).is_symlink() and content(scene.mirror / path) == b"newer"
    absent = () if copied else ("the update",)
    return outcome.finding(link, wrong=wrong, absent=absent, lesser=("the planted link was not told",))


ROWS: tuple[Row, ...] = (source_empty, mirror_bare, planted_folder, planted_file)
