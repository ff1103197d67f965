"""The configuration that was found valid last, so that a run with the same one need not find that out again.

One small file in the private folder. It is believed only if nobody else can have written it and its key says that it
was made of the same bytes by the same program; whatever else it is, the answer is just that nothing is known.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress

from job.core.config.effective import Config
from job.core.config.plain import rebuilt, to_plain
from job.files.atomic import replace_file
from job.files.private import open_folder, private_path, read_private

_MOST_BYTES = 1 << 20


def known_path(config_path: str, environ: Mapping[str, str]) -> str:
    """Name the file for this config. Few names, so that configs that come and go leave no heap of files behind."""
    slot = hashlib.sha256(os.fsencode(os.path.abspath(config_path))).hexdigest()[:2]
    return private_path(f"known-{slot}.json", environ)


def recall(path: str, key: str) -> Config | None:
    """Give the configuration kept under `key`; None if there is none that can be believed. Never raises."""
    try:
        # Not mended: whoever could enter the folder until now may have left something there.
        content = json.loads(read_private(path, most_bytes=_MOST_BYTES, mend=False))
        return rebuilt(Config, content["config"]) if content["key"] == key else None
    except (OSError, ValueError, TypeError, LookupError, RecursionError):
        return None


def recall_last(path: str, config_path: str) -> tuple[Config, float] | None:
    """Give the configuration that was kept last for `config_path`, whatever that holds now, and when it was kept.

    In seconds since the epoch; None if there is none that can be believed. Never raises.
    """
    try:
        content = json.loads(read_private(path, most_bytes=_MOST_BYTES, mend=False))
        if content["path"] != os.path.abspath(config_path):
            return None  # of another configuration, whose name has the same slot
        return rebuilt(Config, content["config"]), float(content["kept_timestamp_seconds"])
    except (OSError, ValueError, TypeError, LookupError, RecursionError):
        return None


def keep(path: str, key: str, config: Config, of: tuple[str, float]) -> None:
    """Keep a valid configuration without secrets under `key`. Never raises: without it a run only starts slower.

    `of` is the path of its file, and the time, in seconds since the epoch.
    """
    config_path, now = of
    known = {"key": key, "path": os.path.abspath(config_path), "kept_timestamp_seconds": now}
    content = json.dumps({**known, "config": to_plain(config)}).encode() + b"\n"
    if len(content) > _MOST_BYTES:
        return
    with suppress(OSError):
        with suppress(FileExistsError):
            os.mkdir(os.path.dirname(path), 0o700)
        folder = open_folder(path, mend=False)
        try:
            replace_file(folder, os.fsencode(os.path.basename(path)), content)
        finally:
            os.close(folder)
