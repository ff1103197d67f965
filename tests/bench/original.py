"""What Truecopy came from, written anew for the benchmark: `python original.py CONFIG`, one cycle, then stop.

It reads the same six keys, walks each source, takes the MD5 sum of both sides, copies with `shutil.copy2` what differs
and logs a line a file. It is kept as quick as that plan allows: buffered log, C hashing, no read-back.
"""

import hashlib
import json
import logging
import os
import shutil
import sys

SKIPPED_FOLDER = ".stfolder"


def md5(path: str) -> str:
    """Read the whole file and give its MD5 sum."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def copy_if_different(source: str, dest: str, log: logging.Logger) -> None:
    """Copy one file unless both sides have the same MD5 sum."""
    checksum = md5(source)
    if os.path.exists(dest) and md5(dest) == checksum:
        log.info("unchanged %s checksum=%s", source, checksum)
        return
    shutil.copy2(source, dest)
    log.info("copied %s to %s checksum=%s permissions=%o", source, dest, checksum, os.stat(dest).st_mode & 0o777)


def backup(source_dir: str, dest_dir: str, log: logging.Logger) -> None:
    """Walk one source; what fails is logged and passed over."""
    for folder, folders, files in os.walk(source_dir):
        if SKIPPED_FOLDER in folders:
            folders.remove(SKIPPED_FOLDER)
        mirror = os.path.join(dest_dir, os.path.relpath(folder, source_dir))
        os.makedirs(mirror, exist_ok=True)
        for name in files:
            try:
                copy_if_different(os.path.join(folder, name), os.path.join(mirror, name), log)
            except OSError:
                log.exception("failed %s", os.path.join(folder, name))


def main(config_file: str) -> None:
    """Run one cycle as the config says."""
    with open(config_file, encoding="utf-8") as file:
        config = json.load(file)
    if config["run_enabled"] != "Y":
        return
    log = logging.getLogger("backup")
    log.setLevel(logging.INFO)
    errors = logging.FileHandler(config["error_log_file"])
    errors.setLevel(logging.ERROR)
    for handler in (logging.FileHandler(config["log_file"]), errors):
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        log.addHandler(handler)
    for source_dir, dest_dir in zip(config["source_dirs"], config["dest_dirs"], strict=True):
        backup(source_dir, dest_dir, log)


if __name__ == "__main__":
    main(sys.argv[1])
