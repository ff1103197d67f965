"""The password of the Pushgateway goes where the one who gave it says, and nowhere else."""

import json
from collections.abc import Mapping

import pytest

from job.config.parse import validated

PUSHGATEWAY = "TRUECOPY_METRICS_PUSHGATEWAY"
SECRET_FILE = {f"{PUSHGATEWAY}_PASSWORD_FILE": "/run/secrets/password"}
SECRET = {f"{PUSHGATEWAY}_PASSWORD": "hunter2"}


def why_withheld(metrics: Mapping[str, str], environ: Mapping[str, str]) -> str:
    raw = json.dumps({"run_enabled": "N", "metrics": {"pushgateway_username": "me", **metrics}}).encode()
    return validated("config.json", raw, environ, lambda _: b"hunter2\n").why_withheld


@pytest.mark.parametrize("given", [SECRET_FILE, SECRET])
@pytest.mark.parametrize("address", ["http://127.0.0.1:9091", "https://gateway", "http://gateway"])
def test_a_password_from_the_environment_goes_to_no_address_of_the_file(address: str, given: Mapping[str, str]) -> None:
    told = why_withheld({"pushgateway": address, "pushgateway_plain_http": "gateway"}, given)

    assert "the password is not sent" in told
    assert told.endswith(f"give the address beside the password, in {PUSHGATEWAY}")


@pytest.mark.parametrize("given", [SECRET_FILE, SECRET])
@pytest.mark.parametrize(
    "address", ["http://localhost:9091", "http://[::1]:9091", "http://127.1.2.3", "https://gateway"]
)
def test_it_goes_to_the_address_of_the_environment_whatever_the_file_names(
    address: str, given: Mapping[str, str]
) -> None:
    assert why_withheld({"pushgateway": "http://elsewhere"}, {**given, PUSHGATEWAY: address}) == ""


@pytest.mark.parametrize("environ", [{}, {PUSHGATEWAY: "https://gateway"}])
@pytest.mark.parametrize("address", ["http://localhost:9091", "https://gateway:9091"])
def test_a_password_in_the_file_goes_to_the_address_in_force(address: str, environ: Mapping[str, str]) -> None:
    assert why_withheld({"pushgateway": address, "pushgateway_password": "hunter2"}, environ) == ""


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("http://Gateway:9091", "gateway"),
        ("http://10.0.0.1/path", "10.0.0.1"),
        ("http://[fd00::1]:9091", "fd00::1"),
        ("http://127.0.0.1.example.org", "127.0.0.1.example.org"),
        ("http://localhost.example.org", "localhost.example.org"),
    ],
)
def test_over_plain_http_it_goes_to_another_machine_only_if_that_is_allowed_by_name(address: str, host: str) -> None:
    login = {"pushgateway": address, "pushgateway_password": "hunter2"}

    told = why_withheld(login, {})

    assert told.endswith(
        f'write an https:// address, or allow this host with metrics.pushgateway_plain_http = "{host}"'
    )
    assert why_withheld({**login, "pushgateway_plain_http": "other"}, {}) == told
    assert why_withheld({**login, "pushgateway_plain_http": host}, {}) == ""
    assert why_withheld({**login, "pushgateway_plain_http": host.upper()}, {}) == ""


def test_for_a_password_from_the_environment_the_environment_has_to_allow_it() -> None:
    environ = {**SECRET_FILE, PUSHGATEWAY: "http://gateway"}

    told = why_withheld({"pushgateway_plain_http": "gateway"}, environ)

    assert told.endswith(f"allow this host with {PUSHGATEWAY}_PLAIN_HTTP=gateway")
    assert why_withheld({}, {**environ, f"{PUSHGATEWAY}_PLAIN_HTTP": "gateway"}) == ""


def test_without_an_address_or_a_password_nothing_is_withheld() -> None:
    assert why_withheld({}, SECRET_FILE) == ""
    raw = json.dumps({"run_enabled": "N", "metrics": {"pushgateway": "http://gateway"}}).encode()
    assert validated("config.json", raw, {}, lambda _: b"").why_withheld == ""
