"""Where logs and metrics are written: what only the disk can tell of these paths, before the first line is written."""

import json
from collections.abc import Iterator

from job.core.config.coherence import misplaced
from job.core.config.effective import Config
from job.errors import ConfigError
from job.files.line_file import is_one_file, why_no_log
from job.files.mounts import is_below

_HINT = "Mend what is named above, then run `truecopy config check`."
_ONE_FILE = "it is the file of log_file, which gets these lines anyway; name another one, or leave it out"


def check_outputs(path: str, config: Config, *, closely: bool = False) -> None:
    """Refuse outputs that lie in a source or mirror by way of a link or mount: `coherence` knows their text only.

    If `closely`, also what is not written to: links, devices and other users' files in the place of a log, other users'
    links on the way, one file for both logs, and a Pushgateway that may not get the password. A run does not end for
    these, since anybody may make them where others may write: the output fails, and the backup goes on. `path` is the
    configuration's. Raises `ConfigError` with every fault.
    """
    faults = tuple(_faults(config, closely=closely))
    if faults:
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        raise ConfigError(f"{path} cannot be used: {count}", hint=_HINT, faults=faults)


def _faults(config: Config, *, closely: bool) -> Iterator[str]:
    logs = {"log_file": config.log_file, "error_log_file": config.error_log_file}
    for key, output in {**logs, "metrics.textfile": config.metrics.textfile}.items():
        if output is None:
            continue
        why = _misplaced(config, output) or (why_no_log(output) if closely and key in logs else "")
        if why:
            yield _fault(key, output, why)
    if closely and config.log_file and config.error_log_file and is_one_file(config.log_file, config.error_log_file):
        yield _fault("error_log_file", config.error_log_file, _ONE_FILE)
    if closely and config.metrics.pushgateway_withheld:
        yield _fault("metrics.pushgateway", config.metrics.pushgateway, config.metrics.pushgateway_withheld)


def _fault(key: str, output: str | None, why: str) -> str:
    return f"{key} = {json.dumps(output, ensure_ascii=False)}: {why}"


def _misplaced(config: Config, output: str) -> str:
    for pair in config.effective_pairs:
        for noun, root in (("source", pair.source), ("mirror", pair.dest)):
            if is_below(output, root):
                return misplaced(noun, root)
    return ""
