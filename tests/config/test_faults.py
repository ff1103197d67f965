"""Every fault in one go, each with its place, the value and what would be right."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from job.config import describe
from job.config.faults import Fault, faults_of, nearest
from job.config.model import PairConfig, WrittenConfig
from tests.config.configs import to_settings

FOLDERS = {"source_dirs": ["/source/music"], "dest_dirs": ["/backup/music"]}


def lines(raw: dict[str, Any], origins: dict[str, str] | None = None) -> list[str]:
    try:
        WrittenConfig.model_validate(raw)
    except ValidationError as error:
        return [str(fault) for fault in faults_of(error, origins or {})]
    return []


def the_line(raw: dict[str, Any]) -> str:
    (line,) = lines(FOLDERS | raw)
    return line


def test_lists_of_different_length_name_both_lengths() -> None:
    line = the_line({"source_dirs": ["/a", "/b", "/c"], "dest_dirs": ["/x", "/y"]})

    assert line.startswith("dest_dirs")
    assert "source_dirs has 3 and dest_dirs has 2" in line


def test_a_disabled_run_with_odd_lists_is_told_too() -> None:
    assert "source_dirs has 1 and dest_dirs has 0" in the_line({"run_enabled": "N", "dest_dirs": []})


def test_an_enabled_run_without_folders_is_a_fault() -> None:
    (line,) = lines({"run_enabled": "Y"})

    assert line == "source_dirs = a list of 0: nothing to back up; write source_dirs and dest_dirs, or pairs"


def test_both_ways_to_name_folders_at_once_are_a_fault() -> None:
    assert "keep one of the two" in the_line({"pairs": [{"source": "/p", "dest": "/q"}]})


def test_a_windows_path_says_which_mount_is_missing() -> None:
    told = lines({"source_dirs": ["C:\\Users\\me\\Music"], "dest_dirs": ["D:/Backup"], "log_file": "C:\\b.log"})

    assert told == [
        (
            'source_dirs[0] = "C:\\\\Users\\\\me\\\\Music": C:\\Users\\me\\Music is a Windows path, but Truecopy '
            "runs on Linux: mount that folder into the container, for example "
            '`-v "C:\\Users\\me\\Music:/source/music:ro"`'
            ", and write /source/music here"
        ),
        (
            'dest_dirs[0] = "D:/Backup": D:/Backup is a Windows path, but Truecopy runs on Linux: mount that folder '
            'into the container, for example `-v "D:/Backup:/backup/backup"`, and write /backup/backup here'
        ),
        (
            'log_file = "C:\\\\b.log": C:\\b.log is a Windows path, but Truecopy runs on Linux: mount its folder into '
            "the container and write the path it has there"
        ),
    ]


def test_windows_folders_of_one_name_get_a_mount_each() -> None:
    raw = {"source_dirs": ["C:/Users/ann/Music", "C:/Users/bob/Music"], "dest_dirs": ["/backup/ann", "/backup/bob"]}

    first, second = lines(raw)

    assert first.endswith("write /source/music here")
    assert second.endswith("write /source/music-2 here")


@pytest.mark.parametrize(
    ("dest", "told"),
    [("/source/music/", "the same folder as its source"), ("/source/music/x", "inside"), ("/source", "around")],
)
def test_a_mirror_that_overlaps_its_source_is_a_fault(dest: str, told: str) -> None:
    line = the_line({"dest_dirs": [dest]})

    assert line.startswith("dest_dirs[0]")
    assert told in line


@pytest.mark.parametrize("dest", ["/x/y/../z", "/x", "/x/z/deeper"])
def test_mirrors_that_overlap_name_each_other(dest: str) -> None:
    (line,) = lines({"pairs": [{"source": "/a", "dest": "/x/z"}, {"source": "/b", "dest": dest}]})

    assert line.startswith(f'pairs[1].dest = "{dest}"')
    assert "pairs[0].dest (/x/z)" in line


def test_a_name_given_twice_is_a_fault_whatever_its_case() -> None:
    pair = {"source": "/a", "dest": "/x", "name": "one"}
    (line,) = lines({"pairs": [pair, {"source": "/b", "dest": "/y", "name": "ONE"}]})

    assert line == 'pairs[1].name = "ONE": pairs[0] has this name already; write another'


def test_mirrors_can_sleep_only_with_a_state_folder() -> None:
    assert the_line({"mirror_check": "asleep"}).startswith('mirror_check = "asleep": needs state_dir')
    assert lines(FOLDERS | {"mirror_check": "asleep", "state_dir": "/state"}) == []


@pytest.mark.parametrize("switch", [True, False, 1, None])
def test_run_enabled_takes_no_switch(switch: object) -> None:
    assert 'write "Y" to run or "N" to do nothing' in the_line({"run_enabled": switch})


def test_an_unknown_key_names_the_nearest_and_hides_its_value() -> None:
    assert the_line({"sleep-tiem": 5}) == "sleep-tiem: unknown key; the nearest known one is sleep_time"
    told = the_line({"metrics": {"pushgateway_pasword": "hunter2"}})
    assert told == "metrics.pushgateway_pasword: unknown key; the nearest known one is pushgateway_password"


def test_a_key_in_the_wrong_table_is_told_its_place() -> None:
    assert the_line({"port": 9477}) == "port: unknown key here; it belongs at metrics.port"


def test_a_missing_key_says_what_to_write() -> None:
    (line,) = lines({"pairs": [{"source": "/a"}]})

    meaning = "the folder for the mirror; created at first use, in an existing folder"
    assert line == f"pairs[0].dest: missing; write {meaning}"


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        ({"checksum": "sha1"}, "checksum = \"sha1\": not one of the choices; write 'sha256', 'blake3' or 'md5'"),
        ({"metrics": {"port": 70000}}, "metrics.port = 70000: too large; write 65535 or less"),
        ({"metrics": {"port": True}}, "metrics.port = true: not a whole number; write digits, such as 9477"),
        ({"metrics": {"port": "a"}}, 'metrics.port = "a": not a whole number; write digits, such as 9477'),
        ({"metrics": 5}, "metrics: not a table; write keys with their values"),
        ({"rate_limit": 0}, "rate_limit = 0: too small; write 1 or more"),
        ({"run_at_start": "maybe"}, 'run_at_start = "maybe": not a switch; write true or false'),
        ({"exclude": "*.tmp"}, 'exclude = "*.tmp": not a list; write the values in [ and ], even a single one'),
        ({"log_file": ""}, 'log_file = "": empty; write a value or leave the key out'),
    ],
)
def test_a_fault_shows_the_value_and_what_would_be_right(raw: dict[str, Any], told: str) -> None:
    assert the_line(raw) == told


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        ({"schedule": "now and then"}, "schedule"),
        ({"exclude": ["*.tmp", "!"]}, "exclude[1]"),
        ({"timezone": "Mars/Olympus"}, "IANA time zone"),
        ({"timezone": "../../etc/passwd"}, "IANA time zone"),
        ({"sleep_time": "a while"}, "'15 minutes'"),
        ({"state_dir": "~/state"}, "~ is not expanded"),
        ({"state_dir": "a\0b"}, "NUL"),
        ({"metrics": {"textfile": "/x/metrics.txt"}}, ".prom"),
        ({"metrics": {"pushgateway": "gateway:9091"}}, "http://pushgateway:9091"),
        ({"metrics": {"address": "http://localhost"}}, "neither an IP address nor a host name"),
        ({"metrics": {"pushgateway": "http://gateway:99999"}}, "with a port from 1 to 65535"),
        ({"metrics": {"pushgateway": "http://gateway:0"}}, "with a port from 1 to 65535"),
        ({"metrics": {"pushgateway": "http://gateway/?token=abc"}}, "holds a query"),
        ({"metrics": {"pushgateway": "http://gateway/#part"}}, "holds a query"),
        ({"metrics": {"pushgateway_username": "me", "pushgateway_password": "ab\ud800cd"}}, "not valid Unicode"),
        ({"metrics": {"pushgateway_username": "me"}}, "metrics.pushgateway_password"),
    ],
)
def test_a_value_of_the_right_type_may_still_be_wrong(raw: dict[str, Any], told: str) -> None:
    assert told in the_line(raw)


def test_faults_of_keys_and_between_keys_are_told_together() -> None:
    raw = {
        "source_dirs": ["/a", "/b"],
        "dest_dirs": ["/x", "/x"],
        "sleep_time": "soon",
        "colour": "red",
        "metrics": {"port": 0},
        "mirror_check": "asleep",
    }

    told = " | ".join(lines(raw))

    for place in ("dest_dirs[1]", "sleep_time", "colour", "metrics.port", "mirror_check"):
        assert place in told


def test_no_fault_shows_a_secret() -> None:
    raw = {"metrics": {"pushgateway_password": ["hunter2"], "pushgateway": "http://me:hunter2@host"}}

    told = " | ".join(lines(FOLDERS | raw))

    assert "hunter2" not in told
    assert "metrics.pushgateway_password = ********" in told


def test_a_fault_names_the_variable_its_value_came_from() -> None:
    (line,) = lines(FOLDERS | {"jitter": "x"}, {"jitter": "env TRUECOPY_JITTER"})

    assert line.startswith('jitter (from TRUECOPY_JITTER) = "x"')


def test_a_fault_is_one_printable_line() -> None:
    line = the_line({"evil\n2026 INFO all fine\x1b[2J": 1})

    assert line.isprintable()


def test_the_nearest_name_is_found_over_dashes_and_case() -> None:
    assert nearest("Log-Level", ["log_file", "log_level"]) == "log_level"
    assert nearest("zzz", ["log_file"]) == ""


def test_a_fault_without_a_value_shows_none() -> None:
    assert str(Fault("here", "", "wrong")) == "here: wrong"


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.just("Y"), st.just("/a")),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=9), inner, max_size=3)),
    max_leaves=8,
)
TOP = sorted({key.name.partition(".")[0] for key in describe.all_keys()})
PAIR = st.dictionaries(st.sampled_from([*PairConfig.model_fields, "other"]), JSON, max_size=5)
VALUE = st.one_of(JSON, st.lists(PAIR, max_size=3), st.lists(st.text(max_size=9), max_size=3))


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.one_of(st.sampled_from(TOP), st.text(max_size=9)), VALUE, max_size=8))
def test_any_mapping_is_a_config_or_a_list_of_faults_that_name_their_keys(raw: dict[str, Any]) -> None:
    try:
        config = to_settings(**raw)
    except ValidationError as error:
        faults = faults_of(error, {})
        assert faults
        for fault in faults:
            assert str(fault).isprintable()
            assert any(fault.place.startswith(key) for key in (*TOP, *raw))
        return

    assert len({pair.name for pair in config.effective_pairs}) == len(config.effective_pairs)


@pytest.mark.parametrize(
    ("written", "place", "lies_in"),
    [
        ({"log_file": "/backup/music/backup.log"}, "log_file", "mirror /backup/music"),
        ({"log_file": "/backup/music/logs/../backup.log"}, "log_file", "mirror /backup/music"),
        ({"error_log_file": "/source/music/x/error.log"}, "error_log_file", "source /source/music"),
        ({"metrics": {"textfile": "/backup//music/x.prom"}}, "metrics.textfile", "mirror /backup/music"),
        ({"source_dirs": ["data"], "log_file": "./data/backup.log"}, "log_file", "source data"),
    ],
)
def test_an_output_in_a_source_or_mirror_is_a_fault(written: dict[str, Any], place: str, lies_in: str) -> None:
    line = the_line(written)

    assert line.startswith(f"{place} = ")
    assert f": lies in the {lies_in}, " in line
    assert line.endswith("write a path outside of every source and mirror")


@pytest.mark.parametrize(
    "path", ["backup.log", "/backup/backup.log", "/backup/music.log", "/backup/musical/backup.log", "music/backup.log"]
)
def test_an_output_beside_sources_and_mirrors_is_none(path: str) -> None:
    assert not lines(FOLDERS | {"log_file": path})


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("/dev/stdout", "is standard output"),
        ("/dev/../dev/stdout", "is standard output"),
        ("/proc/self/fd/1", "is standard output"),
        ("/proc/1/fd/1", "is standard output"),
        ("/dev/fd/2", "is standard error"),
        ("/dev/stderr", "is standard error"),
        ("/dev/null", "keeps nothing"),
    ],
)
@pytest.mark.parametrize("key", ["log_file", "error_log_file"])
def test_a_standard_stream_as_a_log_file_is_a_fault(key: str, path: str, what: str) -> None:
    line = the_line({key: path})

    assert line.startswith(f'{key} = "{path}": {what}')
    assert line.endswith(f"; leave {key} out")


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ({"log_format": "xml"}, "log_format = \"xml\": not one of the choices; write 'json' or 'text'"),
        ({"log_rotate": {"size": "1kB"}}, 'log_rotate.size = "1kB": too small; write 4096 or more'),
        ({"log_rotate": {"count": 0}}, "log_rotate.count = 0: too small; write 1 or more"),
        ({"log_rotate": "10MB"}, "log_rotate: not a table; write keys with their values"),
        ({"log_rotate": {"sise": 1}}, "log_rotate.sise: unknown key; the nearest known one is size"),
    ],
)
def test_faults_of_log_keys_say_what_is_right(written: dict[str, Any], told: str) -> None:
    assert the_line(written) == told


@pytest.mark.parametrize(
    "address",
    [
        "http://u:hunter2@gw:9091",
        "u:hunter2@gw:9091",
        "http:/u:hunter2@gw:9091",
        "http://u:hunter2/x@gw:9091",
        "http://u:hun@ter2@gw:9091",
        "http://u:hunter2 x@gw:9091",
        "https:u:hunter2@gw",
        "u:hunter2",
        "http://u:hunter2",
        "http://gw:9091/@hunter2",
        "http://u:123/hunter2@gw",
        "hunter2@gw",
        "ftp://u:hunter2@gw",
        "http://gw?password=hunter2 ",
    ],
)
def test_no_spelling_of_a_login_in_an_address_is_accepted_or_shown(address: str) -> None:
    for metrics in ({"pushgateway": address}, {"pushgateway_username": address, "pushgateway_password": "other"}):
        if ":" not in address and "pushgateway_username" in metrics:
            continue  # a mail address may be a user

        told = " | ".join(lines(FOLDERS | {"metrics": metrics}))

        assert told.count("metrics.pushgateway") >= 1
        assert "hunter2" not in told
        assert "ter2" not in told


@pytest.mark.parametrize("address", ["gateway:9091", "http:/gateway:9091", "https:gateway"])
def test_an_address_that_is_only_wrong_is_shown(address: str) -> None:
    assert f'metrics.pushgateway = "{address}"' in the_line({"metrics": {"pushgateway": address}})
