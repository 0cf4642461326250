"""What a node says once, when it has made its administrator: the password, how to go on, and who reaches which port.

It is also in `first-run.txt` in the data directory, for its owner alone, until the first login. No password is a
default (fault 100), and none is in the log.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from gateway.config import Config, address, advertised_url, is_loopback, is_wildcard

NAME = "first-run.txt"
_LINE = "=" * 78


def announce(config: Config, addresses: Mapping[str, str], user: str, password: str) -> str:
    """Write the file and return the text. `addresses` are the node's URLs by what for; StorageError never: a disk
    that takes no file must not keep the password from whoever reads the terminal.
    """
    text = _text(config, addresses, user, password)
    path = config.node.data / NAME
    try:
        path.unlink(missing_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
    except OSError:
        return text
    return text


def done(data: Path) -> None:
    """Somebody has logged in: forget the password."""
    (data / NAME).unlink(missing_ok=True)


def _text(config: Config, addresses: Mapping[str, str], user: str, password: str) -> str:
    data = shlex.quote(str(config.node.data))
    devices = advertised_url(config, _port(addresses.get("websocket", "")))
    lines = [
        _LINE,
        f"First run. This is shown once, and in {config.node.data / NAME} until the first login.",
        "",
        f"  user           {user}",
        f"  password       {password}    (to be changed at the first login)",
        f"  admin API      {addresses.get('admin', 'not opened: admin.listen')}",
        f"  devices use    {devices or 'nothing: listen.websocket is not opened'}",
        "",
        "Log in with a browser on this machine, without the password:",
        f"  gateway dashboard --data {data}",
        "",
        "Add a device:",
        f"  gateway device add NAME --data {data}",
        "",
        "Who can reach what, and the line that changes it:",
        *_reach(config, addresses),
        "",
        "A line goes into the settings file (gateway run --config FILE), under the table that its name begins with.",
        _LINE,
        "",
    ]
    return "\n".join(lines)


def _reach(config: Config, addresses: Mapping[str, str]) -> list[str]:
    rows = []
    for what, name, text, open_as in (
        ("RSocket over WebSocket", "listen.websocket", config.listen.websocket, "websocket"),
        ("RSocket over TCP", "listen.tcp", config.listen.tcp, "tcp"),
        ("admin API", "admin.listen", config.admin.listen, "admin"),
        ("metrics, readiness", "telemetry.listen", config.telemetry.listen, "telemetry"),
    ):
        if not text:
            rows.append(f"  {'-':<6} {what:<23} nobody: {name} is empty")
            continue
        host, port = address(text)
        port = port or _port(addresses.get(open_as, ""))
        if is_loopback(host):
            reach, other = "this machine", f'others too:  {name} = "0.0.0.0:{port}"'
        else:
            reach = "everybody" if is_wildcard(host) else f"who reaches {host}"
            other = f'this machine alone:  {name} = "127.0.0.1:{port}"'
        rows.append(f"  {port:<6} {what:<23} {reach:<14} {other}")
    return rows


def _port(url: str) -> int:
    return urlsplit(url).port or 0
