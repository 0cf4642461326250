"""What a setting can be: addresses, paths, lists as they come from a file or an environment; how one is declared."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_settings import NoDecode

from gateway.errors import ConfigError


def address(text: str) -> tuple[str, int]:
    """``host:port`` or ``[v6 address]:port`` as (host, port); port 0 lets the system choose.

    Raises:
        ConfigError: it is neither; the text says what is wrong.
    """
    host, separator, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ConfigError(f"{text!r}: a version 6 address stands in brackets, as in [::1]:7878")
    if not separator or not host:
        raise ConfigError(f"{text!r} is not host:port (0.0.0.0:7878 for every address of this machine)")
    if not (port.isascii() and port.isdigit() and int(port) <= 65535):
        raise ConfigError(f"{text!r} has no port from 0 to 65535 after the last colon")
    return host, int(port)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the host; a name other than ``localhost`` is taken for reachable."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _checked_address(text: str) -> str:
    if text:
        try:
            address(text)
        except ConfigError as error:
            raise ValueError(error.text) from None
    return text


def _split(value: object) -> object:
    """A list in an environment variable is written with commas."""
    if isinstance(value, str):
        return tuple(item.strip() for item in value.split(",") if item.strip())
    return value


def _checked_path(text: str) -> str:
    if not text.startswith("/") or any(character in text for character in "?# ") or not text.isprintable():
        raise ValueError("must begin with / and hold no blank, ? or #")
    return text


def _checked_url(text: str) -> str:
    parts = urlsplit(text)
    if text and (parts.scheme not in ("ws", "wss", "tcp", "tls") or not parts.hostname):
        raise ValueError("is no address of a gateway: write wss://host:7878/rsocket or tls://host:7879")
    return text


def _checked_labels(pairs: tuple[str, ...]) -> tuple[str, ...]:
    keys = []
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or not key or not value or not pair.isprintable() or len(pair.encode()) > _LABEL_BYTES:
            raise ValueError(f"{pair!r} is no label: write site=7")
        if "rsocket" in key or key != key.strip() or key[0].isupper():
            raise ValueError(f"{pair!r}: labels of a node are words of yours, in lower case: site, region")
        keys.append(key)
    if len(set(keys)) < len(keys):
        raise ValueError("one label has two values")
    return pairs


def _unset_if_empty(value: object) -> object:
    """Compose files pass an empty string where a variable is not set."""
    return None if value == "" else value


#: Key and value fit a tag of the broker protocol, which has 127 bytes for each.
_LABEL_BYTES = 127

Address = Annotated[str, AfterValidator(_checked_address)]
UrlPath = Annotated[str, AfterValidator(_checked_path)]
GatewayUrl = Annotated[str, AfterValidator(_checked_url)]
File = Annotated[Path | None, BeforeValidator(_unset_if_empty)]
Texts = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
Labels = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split), AfterValidator(_checked_labels)]


def setting(
    default: object,
    text: str,
    *,
    reload: bool = False,
    secret: bool = False,
    shown: str | None = None,
    dev: object = None,
    **bounds: Any,
) -> Any:
    """Declare one setting: its default (``shown`` in its place where that differs from host to host) and its help.

    ``reload``: a running node can take a new value. ``secret``: its value is not shown. ``dev``: the default under
    ``--dev``. ``bounds`` as for ``Field``.
    """
    extra: dict[str, Any] = {"reloadable": reload, "secret": secret, "shown": shown, "dev": dev}
    return Field(default=default, description=text, json_schema_extra=extra, **bounds)


def limit(text: str, *, least: int = 1, most: int = 2**31 - 1) -> Any:
    return setting(None, text, reload=True, ge=least, le=most)


class Section(BaseModel):
    """Settings that belong together."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)
