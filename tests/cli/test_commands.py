"""The command line as a whole: global options anywhere, help everywhere, and a mistake that names what was meant."""

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from job import __version__
from job.cli import main as command_line
from job.cli.main import truecopy
from job.errors import Exit
from tests.faults.rig import ROOT, Rig, ended, environment

COMMANDS = truecopy.list_commands(click.Context(truecopy))


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    rig = Rig(tmp_path)
    (rig.source / "file").write_text("content")
    return rig


def said(*arguments: str, **variables: str) -> tuple[int, str, str]:
    """Run a command without the rig's `--config`."""
    command = [sys.executable, "-m", "job", *arguments]
    done = ended(command, environment() | variables)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@pytest.mark.parametrize(
    "arguments",
    [
        ("--config", "{}", "config", "check"),
        ("config", "--config", "{}", "check"),
        ("config", "check", "--config", "{}"),
        ("config", "check", "--config={}"),
        ("--config", "/nowhere", "config", "check", "--config", "{}"),
    ],
    ids=" ".join,
)
def test_the_config_may_be_named_before_and_after_the_command(rig: Rig, arguments: tuple[str, ...]) -> None:
    code, out, _ = said(*[each.format(rig.config) for each in arguments])

    assert code == 0
    assert str(rig.config) in out


def test_the_environment_names_the_config_only_where_the_command_line_does_not(rig: Rig) -> None:
    variables = {"TRUECOPY_CONFIG": "/nowhere"}

    assert said("status", TRUECOPY_CONFIG=str(rig.config))[0] == 0
    assert said("status", "--config", str(rig.config), **variables)[0] == 0
    assert said("--config", str(rig.config), "status", **variables)[0] == 0
    assert said("status", **variables)[0] == 2


@pytest.mark.parametrize(
    "arguments", [["-V"], ["--version"], ["run", "-V"], ["config", "check", "--version"]], ids=" ".join
)
def test_the_version_is_printed_wherever_it_is_asked_for(arguments: list[str]) -> None:
    assert said(*arguments) == (0, f"truecopy, version {__version__}\n", "")


@pytest.mark.parametrize("words", [[], ["run"], ["config", "show"]], ids=" ".join)
def test_help_is_the_same_in_both_ways(words: list[str]) -> None:
    assert said("help", *words) == said(*words, "--help")
    assert said("help", *words)[0] == 0


def test_without_a_command_the_help_is_an_error() -> None:
    code, out, error = said()

    assert (code, out) == (2, "")
    assert "Commands:" in error


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_summary_that_fits_and_an_example(name: str) -> None:
    command = truecopy.get_command(click.Context(truecopy), name)
    assert command is not None
    members = list(command.commands.values()) if isinstance(command, click.Group) else [command]

    assert not command.get_short_help_str(58).endswith("...")
    for each in members:
        assert "truecopy " in (each.epilog or ""), each.name
        assert {"--config", "--version"} <= {option for param in each.params for option in param.opts}


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["statsu"], "Did you mean 'status'?"),
        (["rnu", "--once"], "Did you mean 'run'?"),
        (["config", "chekc"], "Did you mean 'check'?"),
        (["help", "plna"], "Did you mean 'plan'?"),
        (["help", "config", "shwo"], "Did you mean 'show'?"),
        (["run", "--onec"], "--once"),
        (["xyzzy"], "The commands are: run, plan, "),
    ],
    ids=str,
)
def test_a_mistyped_name_is_2_and_names_what_was_meant(arguments: list[str], meant: str) -> None:
    code, out, error = said(*arguments)

    assert (code, out) == (2, "")
    assert meant in error


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_script_of_each_shell_is_printed(shell: str) -> None:
    code, script, error = said("completion", shell)

    assert (code, error) == (0, "")
    assert f"_TRUECOPY_COMPLETE={shell}_complete" in script


def test_a_bash_with_the_script_completes_commands_options_and_pairs(rig: Rig, tmp_path: Path) -> None:
    (tmp_path / "truecopy").write_text(f'#!/bin/sh\nexec {sys.executable} -m job "$@"\n')
    (tmp_path / "truecopy").chmod(0o755)
    (tmp_path / "script").write_text(said("completion", "bash")[1])
    complete = """
        source "$1/script" || exit 1
        for line in "truecopy sta" "truecopy run --on" "truecopy --config $2 plan --pair "; do
            COMP_WORDS=($line) COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMPREPLY=()
            [ "${line: -1}" = " " ] && COMP_WORDS+=("") COMP_CWORD=$((COMP_CWORD + 1))
            _truecopy_completion truecopy && echo "${COMPREPLY[@]}"
        done
    """
    variables = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}

    done = subprocess.run(
        ["bash", "-c", complete, "bash", str(tmp_path), str(rig.config)],
        cwd=ROOT,
        env=environment() | variables,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stdout.splitlines() == ["status", "--once", "source"], done.stderr


def test_a_bug_is_a_sentence_with_its_place(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a\nbug")

    monkeypatch.setattr(command_line.truecopy, "main", broken)

    code = command_line.main([])
    error = capfd.readouterr().err

    assert code == Exit.FAILED
    assert "Traceback" not in error
    assert error.startswith("error: an unexpected error ended the command: ZeroDivisionError: a\\nbug\n")
    assert "test_commands.py:" in error


def test_a_log_below_folders_that_do_not_exist_is_a_fault(rig: Rig) -> None:
    rig.configure(log_file=str(rig.base / "none" / "deeper" / "backup.log"))

    done = rig.run("config", "check")

    assert done.code == 2
    assert f"the folder {rig.base / 'none'} does not exist" in done.stderr


def test_a_number_of_thousands_of_digits_is_a_fault_in_plain_words(rig: Rig) -> None:
    rig.config.write_text('{"sleep_time": ' + "9" * 5000 + "}")

    done = rig.run("config", "check")

    assert done.code == 2
    assert "too many digits" in done.stderr
    assert "sys." not in done.stderr
