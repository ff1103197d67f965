"""A secret that is watched: wherever it was written, right or wrong, no command, log, metric or file shows it."""

import base64
import io
import itertools
import json
import os
import signal
import socket
import tempfile
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from job.cli.main import main, show_error
from job.core.redaction import MASK, remember
from job.errors import ConfigError, Exit
from tests.faults.rig import Rig

MARK = "zq4711qz"
CANARIES = [f"canary{MARK}", f"a@:/{MARK}%?#", f"kä {MARK} 'b\"\\", f"{MARK}:{MARK}"]
COMMANDS = [
    "config check",
    "config show",
    "config show --json",
    "config schema",
    "plan",
    "adopt source",
    "run --once",
    "status",
    "status --json",
    "compare",
    "healthcheck",
]
PASSWORD, FILE = "TRUECOPY_METRICS_PUSHGATEWAY_PASSWORD", "TRUECOPY_METRICS_PUSHGATEWAY_PASSWORD_FILE"


_numbers = itertools.count()


def never_seen() -> Callable[[str], str]:
    """Give what makes a canary one that this process, which remembers secrets, knows from no earlier example."""
    number = next(_numbers)
    return lambda text: text.replace(MARK, f"{MARK}{number}x")


def marks() -> list[bytes]:
    """Give what of the canary would be seen in any text, also in base64 wherever it begins there."""
    found = [MARK.encode()]
    for before in range(3):
        coded = base64.b64encode(b"\0" * before + MARK.encode())
        found.append(coded[(0, 2, 3)[before] : (before + len(MARK)) * 8 // 6])
    return found


def assert_unseen(text: bytes, where: str) -> None:
    for mark in marks():
        at = text.find(mark)
        assert at < 0, f"{where}: {text[max(0, at - 200) : at + 100]!r}"


Written = dict[str, Any]


@st.composite
def places(draw: st.DrawFn) -> tuple[Written, dict[str, str], str]:
    """Draw a configuration and an environment that have the canary anywhere, and what the secret's file holds."""
    canary = draw(st.sampled_from(CANARIES))
    metrics: Written = {"pushgateway": "http://127.0.0.1:1", "pushgateway_username": "me"}
    top: Written = {}
    environ: dict[str, str] = {}
    content = canary
    known = draw(st.sampled_from(["file", "variable", "secret file", "nowhere"]))
    if known == "file":
        metrics["pushgateway_password"] = canary
    elif known == "variable":
        environ[PASSWORD] = canary
        environ["TRUECOPY_METRICS_PUSHGATEWAY"] = "http://127.0.0.1:1"
    elif known == "secret file":
        environ[FILE] = "the file"
        content = draw(st.sampled_from([canary, f"{canary}\n", f"one\n{canary}", f"{canary}\0"]))
    for misplace in draw(
        st.lists(st.sampled_from([*SECRETIVE, *(ELSEWHERE if known != "nowhere" else [])]), max_size=2)
    ):
        event(misplace.__name__)
        misplace(canary, top, metrics, environ)
    event(f"known: {known}")
    return {**top, "metrics": top.get("metrics", metrics)}, environ, content


def of_another_type(canary: str, top: Written, metrics: Written, environ: dict[str, str]) -> None:
    del top, environ
    metrics["pushgateway_password"] = [canary, {"deep": canary}]


def as_a_table(canary: str, top: Written, metrics: Written, environ: dict[str, str]) -> None:
    del top, environ
    metrics["pushgateway_password"] = {"value": canary}


def misspelt(canary: str, top: Written, metrics: Written, environ: dict[str, str]) -> None:
    del environ
    metrics["pushgateway_pasword"] = metrics["Password"] = top["pushgateway_password"] = canary


def instead_of_a_table(canary: str, top: Written, metrics: Written, environ: dict[str, str]) -> None:
    del metrics, environ
    top["metrics"] = top["log_rotate"] = canary


def in_a_pair(canary: str, top: Written, metrics: Written, environ: dict[str, str]) -> None:
    del metrics, environ
    top["more"] = {"password": canary}


def in_the_address(canary: str, top: Written, metrics: Written, environ: dict[str, str]) -> None:
    del top, environ
    metrics["pushgateway"] = f"http://me:{canary}@gateway:9091"


def in_a_wrong_address(canary: str, top: Written, metrics: Written, environ: dict[str, str]) -> None:
    del top, metrics
    environ["TRUECOPY_METRICS_PUSHGATEWAY"] = f"http:me:{canary}@gateway"


def with_the_user(canary: str, top: Written, metrics: Written, environ: dict[str, str]) -> None:
    del top, environ
    metrics["pushgateway_username"] = f"me:{canary}"


def instead_of_its_path(canary: str, top: Written, metrics: Written, environ: dict[str, str]) -> None:
    del top, metrics
    environ.setdefault(FILE, canary)  # else no place would be left from which the secret is known


def in_a_variable_that_is_none(canary: str, top: Written, metrics: Written, environ: dict[str, str]) -> None:
    del top, metrics
    environ["TRUECOPY_METRICS_PUSHGATEWAY_PASWORD"] = environ["TRUECOPY_LOG_LEVEL_FILE"] = canary


def in_keys_that_are_shown(canary: str, top: Written, metrics: Written, environ: dict[str, str]) -> None:
    del environ
    top |= {"sleep_time": canary, "schedule": f"daily at {canary}", "log_level": canary, "exclude": [f"{canary}["]}
    metrics |= {"port": canary, "textfile": canary, "address": canary}


def in_a_key_that_may_be_any_text(canary: str, top: Written, metrics: Written, environ: dict[str, str]) -> None:
    del environ
    top["run_enabled"] = metrics["pushgateway_instance"] = f"the {canary}"


def as_the_name_of_a_key(canary: str, top: Written, metrics: Written, environ: dict[str, str]) -> None:
    del environ
    top[canary] = metrics[f"x{canary}"] = 1


def as_the_name_of_a_pair(canary: str, top: Written, metrics: Written, environ: dict[str, str]) -> None:
    del metrics, environ
    top["name"] = canary


SECRETIVE = [
    of_another_type,
    as_a_table,
    misspelt,
    instead_of_a_table,
    in_a_pair,
    in_the_address,
    in_a_wrong_address,
    with_the_user,
    instead_of_its_path,
    in_a_variable_that_is_none,
]
"""Places of which everybody can tell that a secret is there."""
ELSEWHERE = [in_keys_that_are_shown, in_a_key_that_may_be_any_text, as_the_name_of_a_key, as_the_name_of_a_pair]
"""Places where it is only known for one if it stands in the right place, too."""


class Stage:
    """A source, a mirror and a configuration, on which every command is run in this process."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.secret = base / "secret"
        for folder in ("source", "mirror", "tmp"):
            (base / folder).mkdir()
        (base / "source/file").write_text("content")

    def document(self, top: Written) -> Written:
        pair = {"source": str(self.base / "source"), "dest": str(self.base / "mirror"), "name": "p"}
        pair |= {"name": top.pop("name")} if "name" in top else {}
        pair |= top.pop("more", {})
        logs = {"log_file": str(self.base / "all.log"), "error_log_file": str(self.base / "error.log")}
        metrics = top.get("metrics")
        if isinstance(metrics, dict):
            metrics.setdefault("textfile", str(self.base / "truecopy.prom"))
        return {"pairs": [pair], "landlock": "off", **logs, **top}

    def play(self, config: Path, environ: dict[str, str], content: str) -> None:
        """Run every command, and look for the canary in what it prints and leaves."""
        self.secret.write_text(content)
        if environ.get(FILE) == "the file":
            environ[FILE] = str(self.secret)
        kept = {name: text for name, text in os.environ.items() if not name.startswith("TRUECOPY_")}
        given = kept | environ | {"TMPDIR": str(self.base / "tmp")}
        for command in COMMANDS:
            out, err = io.StringIO(), io.StringIO()
            with mock.patch.dict(os.environ, given, clear=True), redirect_stdout(out), redirect_stderr(err):
                code = main(["--config", str(config), *command.split()])
            assert_unseen(f"{out.getvalue()}{err.getvalue()}".encode(errors="backslashreplace"), command)
            assert code in {*Exit}
        for path in self.base.rglob("*"):
            if path.is_file() and path not in {config, self.secret}:
                assert_unseen(path.read_bytes(), str(path))
                assert MARK not in str(path)


@contextmanager
def stage() -> Iterator[Stage]:
    with tempfile.TemporaryDirectory() as base:
        yield Stage(Path(base))


quick = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@quick
@given(places())
def test_no_command_shows_a_secret_wherever_it_was_written(drawn: tuple[Written, dict[str, str], str]) -> None:
    play(*drawn)


@pytest.mark.slow
@settings(quick, max_examples=300)
@given(places())
def test_no_command_shows_a_secret_wherever_it_was_written_many_times(
    drawn: tuple[Written, dict[str, str], str],
) -> None:
    play(*drawn)


def play(top: Written, environ: dict[str, str], content: str) -> None:
    with stage() as played:
        config = played.base / "config.json"
        fresh = never_seen()
        config.write_text(fresh(json.dumps(played.document(top))))

        played.play(config, {name: fresh(value) for name, value in environ.items()}, fresh(content))


@pytest.mark.parametrize("misplace", [*SECRETIVE, *ELSEWHERE], ids=lambda each: each.__name__)
@pytest.mark.parametrize("canary", CANARIES)
def test_no_fault_of_any_place_shows_a_secret(
    misplace: Any, canary: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    top: Written = {}
    metrics: Written = {"pushgateway_username": "me", "pushgateway_password": canary}
    environ: dict[str, str] = {}
    misplace(canary, top, metrics, environ)
    played = Stage(tmp_path)
    config = tmp_path / "config.json"
    config.write_text(json.dumps(played.document({"metrics": metrics, **top})))
    for name, text in environ.items():
        monkeypatch.setenv(name, text)
    out, err = io.StringIO(), io.StringIO()

    with redirect_stdout(out), redirect_stderr(err):
        code = main(["--config", str(config), "config", "check"])

    assert code == Exit.USAGE
    assert_unseen(f"{out.getvalue()}{err.getvalue()}".encode(), misplace.__name__)


@st.composite
def torn(draw: st.DrawFn) -> tuple[str, str]:
    """Draw a text that is no configuration any more, with its extension."""
    canary = draw(st.sampled_from(CANARIES))
    key = draw(st.sampled_from(["pushgateway_password", "pushgateway_pasword", "secret", "token", "pushgateway"]))
    value = f"http://me:{canary}@gateway" if key == "pushgateway" else canary
    if draw(st.booleans()):
        text, extension = (
            json.dumps({"metrics": {key: value}, "sleep_time": 30}, indent=draw(st.sampled_from([None, 1]))),
            ".json",
        )
        text = text.replace(": ", draw(st.sampled_from([": ", ":\n", "\n"])))
    else:
        quote = draw(st.sampled_from(['"', "'", "", '"""', "\n"]))
        text, extension = f"sleep_time = 30\n[metrics]\n{key} = {quote}{value}{quote}\n", ".toml"
    at = draw(st.integers(0, len(text)))
    change = draw(st.sampled_from(["", '"', "{", "}", ",", "\n", "\\", "\0", "x"]))
    return text[:at] + change + text[at + draw(st.integers(0, 2)) :], extension


@settings(max_examples=200, deadline=None)
@given(torn())
def test_no_syntax_error_quotes_a_secret(drawn: tuple[str, str]) -> None:
    text, extension = drawn
    out, err = io.StringIO(), io.StringIO()
    with tempfile.TemporaryDirectory() as base, redirect_stdout(out), redirect_stderr(err):
        config = Path(base, f"config{extension}")
        config.write_text(never_seen()(text))

        main(["--config", str(config), "config", "check"])

    if MARK in text:
        assert_unseen(f"{out.getvalue()}{err.getvalue()}".encode(errors="backslashreplace"), text)


def test_an_error_of_a_library_that_quotes_a_secret_is_shown_without_it(capsys: pytest.CaptureFixture[str]) -> None:
    remember([f"canary{MARK}"])
    coded = base64.b64encode(f"me:canary{MARK}".encode()).decode()

    show_error(ConfigError(f"Invalid header b'Basic {coded}'", hint=f"not canary{MARK}", faults=(f"canary{MARK}",)))

    told = capsys.readouterr().err
    assert told == f"error: Invalid header b'Basic {MASK}'\n  - {MASK}\nhint: not {MASK}\n"


class Listener:
    """A Pushgateway that refuses, and repeats the login that it was sent."""

    def __init__(self) -> None:
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        self.seen: list[bytes] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        with self.server:
            self.server.shutdown(socket.SHUT_RDWR)
            self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                peer, _ = self.server.accept()
            except OSError:
                return
            with peer:
                request = peer.recv(65536)
                self.seen.append(request)
                login = next((line for line in request.split(b"\r\n") if line.startswith(b"Authorization")), b"")
                peer.sendall(b"HTTP/1.1 401 no " + login[:200] + b"\r\nContent-Length: 0\r\n\r\n")


def test_a_service_shows_no_secret_in_logs_and_metrics_while_pushes_fail_and_edits_are_broken(tmp_path: Path) -> None:
    gateway, rig = Listener(), Rig(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    canary = f"a@:/{MARK}%"
    metrics = {"port": port, "pushgateway": f"http://127.0.0.1:{gateway.port}", "pushgateway_username": "me"}
    good = {"metrics": {**metrics, "pushgateway_password": canary}, "sleep_time": 3600}
    (rig.source / "file").write_text("content")
    rig.configure(**good)

    with rig.started("run") as service:
        service.wait_for("output_failed", output="pushgateway")
        edits: tuple[dict[str, Any], ...] = (
            {"sleep_time": canary},
            {"schedule": canary, "metrics": {"pushgateway": f"u:{canary}@gw"}},
        )
        for told, broken in enumerate(edits, start=1):
            rig.configure(**good | broken)
            os.kill(service.process.pid, signal.SIGHUP)
            service.wait_for("config_rejected", count=told)
        rig.config.write_text(f'{{"metrics": {{"pushgateway_password": "{canary}"')
        os.kill(service.process.pid, signal.SIGHUP)
        service.wait_for("config_rejected", count=3)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            assert_unseen(answer.read(), "/metrics")
        assert_unseen(json.dumps(service.lines).encode(), "standard output")
    gateway.close()

    assert any(base64.b64encode(f"me:{canary}".encode()) in request for request in gateway.seen), "it was in use"
    for path in tmp_path.rglob("*"):
        if path.is_file() and path != rig.config:
            assert_unseen(path.read_bytes(), str(path))
