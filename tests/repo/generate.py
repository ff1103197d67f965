"""Write what is made from the config model: the schema and the tables of `config/README.md`.

Run by path, `python tests/repo/generate.py`; with `--check` it writes nothing and exits 1 if something would change.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from job.core.config import describe  # noqa: E402  (only now found, where the project is not installed)


def between(text: str, marker: str, content: str) -> str:
    begin, end = f"<!-- {marker}: made by `make docs` -->\n", f"<!-- end of {marker} -->"
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    if len(pattern.findall(text)) != 1:
        sys.exit(f"config/README.md should have the marker {begin.strip()} and its end once")
    return pattern.sub(lambda _: f"{begin}\n{content}\n{end}", text)


def generated() -> dict[Path, str]:
    readme = ROOT / "config/README.md"
    text = between(readme.read_text("utf-8"), "keys", describe.key_table())
    text = between(text, "keys of a pair", describe.pair_table())
    return {readme: text, ROOT / "config/backup_config.schema.json": describe.schema_text()}


def main(arguments: list[str]) -> int:
    stale = [path for path, text in generated().items() if not path.exists() or path.read_text("utf-8") != text]
    if "--check" in arguments:
        for path in stale:
            sys.stderr.write(f"{path.relative_to(ROOT)} is not what the model says; run `make docs`\n")
        return 1 if stale else 0
    for path in stale:
        path.write_text(generated()[path], "utf-8")
        sys.stdout.write(f"wrote {path.relative_to(ROOT)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
