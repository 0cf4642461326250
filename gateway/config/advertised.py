"""Under which address devices reach the node: as the settings say, else the best that can be known."""

from __future__ import annotations

import ipaddress
import platform
from urllib.parse import urlsplit

from gateway.config.declarations import Config
from gateway.config.values import address


def advertised_url(config: Config, port: int = 0) -> str:
    """What a device is told to connect to; empty where no WebSocket listener is open and nothing is set.

    `port` is the one that the system chose, where the settings leave that to it.
    """
    if config.node.advertised_url or not config.listen.websocket:
        return config.node.advertised_url
    host, named = address(config.listen.websocket)
    if is_wildcard(host):
        host = platform.node() or "localhost"
    shown = f"[{host}]" if ":" in host else host
    return f"{'wss' if config.tls.enabled else 'ws'}://{shown}:{named or port}{config.listen.path}"


def advertised_host(config: Config) -> str | None:
    """The host of an advertised URL that is set: the node's own certificate must name it."""
    return urlsplit(config.node.advertised_url).hostname


def certificate_names(config: Config) -> tuple[str, ...]:
    """What the certificate that the node issues itself is for, besides its own name."""
    host = advertised_host(config)
    return (*config.tls.names, *([host] if host else ()))


def is_wildcard(host: str) -> bool:
    """Whether it stands for every address of the machine."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False
