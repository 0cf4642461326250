"""How a bridge reaches its MQTT broker: the part `mqtt` of a `Bridge` document."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from gateway.documents.model import Part
from gateway.documents.units import Duration, Size

#: Scheme → whether TLS is under it, whether it is a WebSocket, and the port where none is given.
SCHEMES = {
    "mqtt": (False, False, 1883),
    "mqtts": (True, False, 8883),
    "ws": (False, True, 80),
    "wss": (True, True, 443),
}
#: The path of a WebSocket where the address has none, as brokers have it.
WEBSOCKET_PATH = "/mqtt"
MAX_ADDRESSES = 16
_VERSIONS = {"5": 5, "5.0": 5, "4": 4, "3.1.1": 4, "311": 4}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`path`: of the WebSocket; None for plain MQTT."""

    host: str
    port: int
    tls: bool
    path: str | None

    def __str__(self) -> str:
        scheme = next(
            name for name, (tls, web, _) in SCHEMES.items() if (tls, web) == (self.tls, self.path is not None)
        )
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{host}:{self.port}{self.path or ''}"


def endpoint(text: str) -> Endpoint:
    """Raises ValueError."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"{text!r} is no address: {error}") from None
    if parts.scheme not in SCHEMES or not parts.hostname:
        raise ValueError(f"{text!r} is no address: one of {', '.join(SCHEMES)}, as in mqtts://broker:8883")
    _check_rest(text, parts)
    tls, web, usual = SCHEMES[parts.scheme]
    if not web and parts.path not in ("", "/"):
        raise ValueError(f"{text!r}: only ws and wss have a path")
    return Endpoint(parts.hostname, port or usual, tls, (parts.path or WEBSOCKET_PATH) if web else None)


def _check_rest(text: str, parts: SplitResult) -> None:
    if parts.username is not None or parts.password is not None:
        raise ValueError("credentials are no part of an address: username and passwordFile")
    if parts.query or parts.fragment or not text.isprintable() or " " in text:
        raise ValueError(f"{text!r} is no address")


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _version(value: Any) -> Any:
    return _VERSIONS.get(str(value), value) if not isinstance(value, bool) else value


def _address(text: str) -> str:
    endpoint(text)
    return text


def _path(text: str) -> str:
    if not text.startswith("/") or not text.isprintable():
        raise ValueError("is no absolute path")
    return text


Address = Annotated[str, AfterValidator(_address)]
File = Annotated[str, Field(max_length=1024), AfterValidator(_path)]
Text = Annotated[str, Field(min_length=1, max_length=1024)]


class Tls(Part):
    """`ca`: PEM file of who is trusted; without it the system's. `certificate` and `key`: what we show ourselves with.
    `serverName`: by which name the broker is known, where the address has another. `insecure`: take any name."""

    ca: File | None = None
    certificate: File | None = None
    key: File | None = None
    server_name: Text | None = None
    insecure: bool = False

    @model_validator(mode="after")
    def _both(self) -> Tls:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key go together")
        return self


class Token(Part):
    """Sent as the password. `file`: read before each connect; a JWT is renewed before it expires, so whoever writes the
    file does so in time. Without `file` the node signs one itself, for `audience`, that lives for `ttl`; brokers find
    its keys under `/.well-known/jwks.json` of the admin port."""

    file: File | None = None
    audience: Text | None = None
    ttl: Duration = 3600.0

    @model_validator(mode="after")
    def _one(self) -> Token:
        if (self.file is None) == (self.audience is None):
            raise ValueError("either file or audience")
        if not self.ttl >= 60:
            raise ValueError("ttl is less than 60s")
        return self


class Broker(Part):
    address: Annotated[
        tuple[Address, ...],
        Field(min_length=1, max_length=MAX_ADDRESSES),
        BeforeValidator(_listed, json_schema_input_type=str | Annotated[list[str], Field(max_length=MAX_ADDRESSES)]),
    ]
    version: Annotated[Literal[4, 5], BeforeValidator(_version, json_schema_input_type=int | str)] = 5
    client_id: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    clean_start: bool = False
    session_expiry: Duration = 604_800.0
    keepalive: Duration = 60.0
    receive_maximum: Annotated[int, Field(ge=1, le=65_535, strict=True)] = 64
    max_packet: Size = 1024 * 1024
    connect_timeout: Duration = 10.0
    username: Text | None = None
    password_file: File | None = None
    token: Token | None = None
    tls: Tls = Tls()

    @model_validator(mode="after")
    def _credentials(self) -> Broker:
        if self.password_file is not None and self.token is not None:
            raise ValueError("passwordFile and token: one of them")
        if self.password_file is not None and self.username is None:
            raise ValueError("passwordFile needs a username")
        if not 1 <= self.keepalive <= 65_535:
            raise ValueError("keepalive is from 1s to 65535s")
        if not 0 <= self.session_expiry <= 0xFFFFFFFF:
            raise ValueError("sessionExpiry is at most 4294967295s")
        if not 1 <= self.connect_timeout <= 300:
            raise ValueError("connectTimeout is from 1s to 300s")
        if not 1024 <= self.max_packet <= 268_435_460:
            raise ValueError("maxPacket is from 1KiB to 268435460B")
        return self

    @cached_property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """In the order in which they are tried."""
        return tuple(endpoint(text) for text in self.address)
