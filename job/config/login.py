"""Where the password of the Pushgateway may go. Pure.

Who gives the password says where to: in the file both stand together, but a password from the environment, or from a
file of its own, is for the address that the environment names. So nobody who may edit the configuration, but not read
the password, can have it sent anywhere else. Over plain http it goes to this machine, and else to a host that was
allowed by name.
"""

import ipaddress
from collections.abc import Mapping

from job.config import describe, fields
from job.config.model import MetricsConfig

ADDRESS, PASSWORD, PLAIN = (f"metrics.pushgateway{ending}" for ending in ("", "_password", "_plain_http"))


def withheld(metrics: MetricsConfig, origins: Mapping[str, str]) -> str:
    """Tell why the password may not be sent to the Pushgateway, and what to do; empty if it may be, or is not wanted.

    `origins` tells by dotted key where each value came from.
    """
    if metrics.pushgateway is None or metrics.pushgateway_password is None:
        return ""
    variables = {key.name: key.variable for key in describe.all_keys()}
    bound = origins[PASSWORD] not in _WRITTEN
    if bound and origins[ADDRESS] in _WRITTEN:
        return (
            "the password is not sent, and nothing is pushed: it comes from the environment and the address from the "
            "configuration file, which others may be allowed to edit; give the address beside the password, in "
            f"{variables[ADDRESS]}"
        )
    host = fields.host_of(metrics.pushgateway)
    if metrics.pushgateway.startswith("https:") or _is_here(host):
        return ""
    if (metrics.pushgateway_plain_http or "").lower() == host and not (bound and origins[PLAIN] in _WRITTEN):
        return ""
    where = f"{variables[PLAIN]}={host}" if bound else f'{PLAIN} = "{host}"'
    return (
        f"the password is not sent, and nothing is pushed: over plain http everybody on the way to {host} could read "
        f"it; write an https:// address, or allow this host with {where}"
    )


_WRITTEN = frozenset({"file", "default"})


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
