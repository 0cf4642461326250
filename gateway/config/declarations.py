"""Every setting: its default, its help, and whether a running node can take a new value.

A section is a table of the TOML file. Only what the program reads is declared. Knows nothing of where values come from
(``config.loading``) and of what they are for.
"""

from __future__ import annotations

import ipaddress
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from gateway.errors import ConfigError

ENVIRONMENT_PREFIX = "GATEWAY__"
DELIMITER = "__"


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


def _unset_if_empty(value: object) -> object:
    """Compose files pass an empty string where a variable is not set."""
    return None if value == "" else value


Address = Annotated[str, AfterValidator(_checked_address)]
UrlPath = Annotated[str, AfterValidator(_checked_path)]
GatewayUrl = Annotated[str, AfterValidator(_checked_url)]
File = Annotated[Path | None, BeforeValidator(_unset_if_empty)]
Texts = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]


def _setting(
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


def _limit(text: str, *, least: int = 1, most: int = 2**31 - 1) -> Any:
    return _setting(None, text, reload=True, ge=least, le=most)


class Section(BaseModel):
    """Settings that belong together."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class Node(Section):
    """The process itself."""

    name: str = _setting(
        platform.node() or "gateway",
        "Name of this node as others see it, in readiness answers and with each caller's identity.",
        shown="the host's name",
        min_length=1,
        max_length=255,
    )
    data: Path = _setting(
        Path("gateway-data"),
        "Directory of everything that must outlive the process: identity, keys, certificates.",
    )
    advertised_url: GatewayUrl = _setting(
        "",
        "Address under which devices reach this node, as they are told with their credential: "
        "`wss://gateway.example.org:7878/rsocket`. Its host belongs to the certificate that the node issues itself.",
        shown="from `listen` and the host's name",
        reload=True,
    )


class Listen(Section):
    """Where RSocket is accepted."""

    websocket: Address = _setting(
        "0.0.0.0:7878",
        "Address for RSocket over WebSocket; also answers `GET /healthz`. Empty: not opened.",
        dev="127.0.0.1:7878",
    )
    tcp: Address = _setting("0.0.0.0:7879", "Address for RSocket over TCP. Empty: not opened.", dev="127.0.0.1:7879")
    path: UrlPath = _setting("/rsocket", "Path of the WebSocket endpoint; `/` is accepted as well.")
    origins: Texts = _setting(
        (),
        "Values of `Origin` from which web pages may connect. A client that sends no `Origin` is no web page and may. "
        "Separated by commas in the environment.",
        reload=True,
    )
    backlog: int = _setting(
        1024, "Connections that the system keeps waiting to be accepted, on each listener.", ge=1, le=65535
    )


class Tls(Section):
    """Encryption of both RSocket listeners: TLS 1.2 and 1.3."""

    enabled: bool = _setting(
        True, "Whether the listeners speak TLS. Without it they may only be on loopback addresses.", dev=False
    )
    insecure: bool = _setting(
        False,
        "Allow plain connections on addresses that others can reach. Tokens then cross the network in the clear.",
    )
    certificate: File = _setting(
        None, "PEM file with the listeners' certificate chain. Unset: the node issues its own."
    )
    key: File = _setting(None, "PEM file with the private key of `tls.certificate`.")
    names: Texts = _setting(
        (),
        "Further host names and addresses for the certificate that the node issues itself. Separated by commas in the "
        "environment.",
    )

    @model_validator(mode="after")
    def _pair(self) -> Tls:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key are set together or not at all")
        return self


class Auth(Section):
    """Who may connect."""

    mode: Literal["token", "off"] = _setting(
        "token", "`token`: a valid token opens a connection. `off`: everybody may do everything."
    )
    audience: str = _setting("gateway", "The `aud` that a token must have.", reload=True, min_length=1)
    max_lifetime_s: int = _setting(
        86_400, "Longest life of a token, from `iat` to `exp`, in seconds.", reload=True, ge=60, le=366 * 86_400
    )
    leeway_s: int = _setting(
        60, "Seconds by which the clocks of an issuer and of this node may differ.", reload=True, ge=0, le=600
    )
    registered_only: bool = _setting(
        False,
        "Whether devices and services must be registered. If not, a valid token of one that is not is accepted, too.",
        reload=True,
    )
    device_ttl_s: int = _setting(
        3600,
        "Life of a registered device's token, in seconds, where nobody says otherwise; connected devices renew it.",
        reload=True,
        ge=60,
        le=366 * 86_400,
    )
    renewal_grace_s: int = _setting(
        30 * 86_400,
        "Seconds after its token has run out in which a device may renew it with its own key.",
        reload=True,
        ge=0,
        le=366 * 86_400,
    )


class Storage(Section):
    """The database of devices, credentials, users and the audit trail, in `node.data`."""

    max_bytes: int = _setting(
        1024 * 1024 * 1024,
        "Size that the database may grow to. Beyond it changes are refused, but for those that make room or take "
        "rights away; reads go on.",
        ge=1024 * 1024,
        le=2**40,
    )


class KindLimits(Section):
    """Limits of one connection, for one kind of principal. Unset: the kind's own figure."""

    max_frame_bytes: int | None = _limit("One RSocket frame, and one WebSocket message.", most=0xFF_FFFF)
    max_metadata_bytes: int | None = _limit("Metadata of one frame.", most=0xFF_FFFF)
    max_metadata_entries: int | None = _limit("Entries of one composite metadata.")
    max_route_bytes: int | None = _limit("One routing tag or service name.", most=255)
    max_mime_bytes: int | None = _limit("One MIME type in SETUP.", most=255)
    max_setup_bytes: int | None = _limit("The SETUP frame, token and registrations included.", most=0xFF_FFFF)
    max_streams: int | None = _limit("Streams open at a time; 0: no limit.", least=0)
    requests_per_second: int | None = _limit("Requests a second; 0: no limit.", least=0)
    request_burst: int | None = _limit("Requests that may come at once, where there is a rate.", least=0)
    max_reassembly_bytes: int | None = _limit("One message to the node's own services, put together from fragments.")
    max_fragments: int | None = _limit("Fragments of one such message.")
    max_partials: int | None = _limit("Such messages that are partly there, at a time.")
    max_partial_bytes: int | None = _limit("Bytes of all of them together.")
    partial_idle_s: float | None = _limit("Seconds that the next fragment of such a message may take to come.")
    min_fragment_bytes: int | None = _limit(
        "Bytes of any fragment that is passed on, but for the last one of a message; 0: no limit.", least=0
    )
    broken_messages: int | None = _limit(
        "Fragmented messages over a limit, in a minute, from which on the connection is closed; 0: no limit.", least=0
    )
    max_keepalive_bytes: int | None = _limit("Data of one KEEPALIVE frame.", least=0)
    ignored_frames: int | None = _limit(
        "Frames that the protocol says to ignore, in one window; 0: no limit, of bytes neither.", least=0
    )
    ignored_bytes: int | None = _limit("Bytes of such frames, in one window.", least=0)
    ignored_window_s: float | None = _limit("The window of these two budgets, in seconds.")
    high_water_bytes: int | None = _limit("Bytes waiting to leave above which streams that feed it get no more credit.")
    hard_water_bytes: int | None = _limit("Bytes waiting to leave above which whoever feeds it is paused.")
    write_deadline_s: float | None = _limit("Seconds in which a connection with bytes waiting must take some.")
    resume_bytes: int | None = _limit(
        "Sent frames kept for a session that can be resumed, until it has confirmed them; 0: none can be resumed.",
        least=0,
    )
    resume_hold_s: float | None = _limit("Seconds that such a session waits for another link.", least=0)
    max_memory_bytes: int | None = _limit(
        "Bytes held for one connection, above which it is closed: what waits to leave, messages that are partly there, "
        "frames kept for a resume; 0: no limit.",
        least=0,
    )
    bytes_per_second: int | None = _limit(
        "Bytes read a second; above it the connection is not read from for a while; 0: no limit.", least=0
    )
    premature_ends: int | None = _limit(
        "Ended requests from which on the connection is closed when half of them were canceled within a second or "
        "were invalid; 0: no limit.",
        least=0,
    )
    keepalive_burst: int | None = _limit(
        "KEEPALIVE frames beyond two in each interval that SETUP names; 0: no limit.", least=0
    )
    pushes_per_second: int | None = _limit(
        "METADATA_PUSH frames a second that are taken; more of them are dropped; 0: no limit.", least=0
    )
    request_n_burst: int | None = _limit(
        "REQUEST_N frames of a stream beyond one for each item; more count as frames to ignore; 0: no limit.", least=0
    )

    def overrides(self) -> dict[str, int | float]:
        """The figures that are set, by name."""
        return {name: value for name, value in self if value is not None}


class Limits(Section):
    """What connections may use. `limits.<kind>` changes single figures of that kind's profile."""

    max_connections: int = _setting(5_000, "Connections of this node at a time; 0: no limit.", ge=0)
    accept_rate: int = _setting(
        100, "Connections accepted a second, on both listeners together; 0: no limit. Others get 503.", ge=0
    )
    accept_burst: int = _setting(200, "Connections that may come at once, where there is a rate.", ge=1)
    max_unauthenticated: int = _setting(
        20, "Connections from one address whose SETUP is not accepted yet; 0: no limit. Others get 429.", ge=0
    )
    max_handshakes: int = _setting(
        64, "TLS and WebSocket handshakes under way at a time on each listener; 0: no limit. Others wait.", ge=0
    )
    flapping: int = _setting(
        15,
        "Connections of one address in a minute that end before their SETUP is accepted or are closed for what they "
        "did, before the address is barred; 0: no limit. It gets 429.",
        ge=0,
    )
    token_failures: int = _setting(
        10, "Tokens of one address refused in a minute before it is barred; 0: no limit. It gets 429 or 4429.", ge=0
    )
    ban_s: float = _setting(300.0, "Seconds for which an address is barred.", gt=0)
    loopback: bool = _setting(
        False, "Whether limits by address and of the rate of accepting hold for loopback addresses too."
    )
    tls_handshake_timeout_s: float = _setting(5.0, "Seconds for the TLS handshake.", reload=True, gt=0, le=300)
    upgrade_timeout_s: float = _setting(10.0, "Seconds for the WebSocket handshake.", reload=True, gt=0, le=300)
    http_line_bytes: int = _setting(
        8_192, "The request line of a WebSocket handshake, or one of its headers. Longer: 414 or 431.", ge=64, le=8_192
    )
    http_headers: int = _setting(128, "Headers of a WebSocket handshake. More: 431.", ge=8, le=128)
    message_fragments: int = _setting(1_024, "WebSocket frames of one message.", ge=1, le=2**31 - 1)
    setup_timeout_s: float = _setting(
        5.0, "Seconds for SETUP to come, from the moment that frames can be sent.", reload=True, gt=0, le=300
    )
    keepalive_min_ms: int = _setting(
        5_000,
        "Shortest keepalive interval and lifetime that are taken from a client, in milliseconds.",
        reload=True,
        ge=1,
        le=2**31 - 1,
    )
    lifetime_max_ms: int = _setting(
        3_600_000,
        "Longest keepalive interval and lifetime that are taken from a client, in milliseconds.",
        reload=True,
        ge=1,
        le=2**31 - 1,
    )
    drain_grace_s: float = _setting(
        10.0, "Seconds that requests in flight have to finish when the node stops.", reload=True, ge=0, le=3600
    )
    memory_bytes: int | None = _setting(
        None,
        "Memory of the process. At 85 % nobody is let in, at 92 % no durable work is taken, at 97 % the connections "
        "for which most waits are closed; 0: no limit.",
        shown="that of the control group",
        ge=0,
    )
    lag_warn_ms: int = _setting(
        100, "A delay of the event loop from which on it is said in the log and leases are a quarter.", ge=10, le=60_000
    )
    lag_shed_ms: int = _setting(
        500,
        "A delay of the event loop from which on nobody new is let in for a second and leases are a sixteenth.",
        ge=10,
        le=60_000,
    )
    drain_spread_s: float = _setting(
        10.0, "Seconds over which many connections are told to go elsewhere when the node stops.", ge=0, le=300
    )
    resume_sessions: int = _setting(
        2_000,
        "Sessions that can be resumed, with a link or waiting for one; no more than an eighth of them for one subject.",
        ge=1,
        le=2**31 - 1,
    )
    device: KindLimits = KindLimits()
    user: KindLimits = KindLimits()
    service: KindLimits = KindLimits()
    node: KindLimits = KindLimits()
    admin: KindLimits = KindLimits()

    @model_validator(mode="after")
    def _ordered(self) -> Limits:
        if self.keepalive_min_ms > self.lifetime_max_ms:
            raise ValueError("keepalive_min_ms is above lifetime_max_ms")
        if self.lag_warn_ms > self.lag_shed_ms:
            raise ValueError("lag_warn_ms is above lag_shed_ms")
        return self


class Admin(Section):
    """The admin API."""

    listen: Address = _setting(
        "127.0.0.1:9878",
        "Address of the admin API. Empty: not opened. On an address that others can reach it speaks TLS, with the "
        "listeners' certificate.",
    )
    insecure: bool = _setting(
        False, "Speak plain HTTP on such an address too. Passwords and tokens then cross the network in the clear."
    )
    hosts: Texts = _setting(
        (),
        "Names under which the admin API is asked for, besides localhost, `tls.names`, the host's own name and every "
        "address. Others get 421. Separated by commas in the environment.",
        reload=True,
    )
    requests_per_second: int = _setting(
        20, "Requests a second of one token, or of one address without a token; 0: no limit. Others get 429.", ge=0
    )
    max_streams: int = _setting(
        5, "Event streams that one user or API key may have open; others get 429.", reload=True, ge=1, le=64
    )


class Telemetry(Section):
    """`/metrics`, `/livez`, `/readyz`, `/version`: read-only, no secrets, no authentication."""

    listen: Address = _setting("127.0.0.1:9879", "Address of the telemetry port. Empty: not opened.")


class Log(Section):
    """The node's log, on standard error."""

    level: Literal["debug", "info", "warning", "error"] = _setting(
        "info", "Least severity that is written.", reload=True
    )
    format: Literal["auto", "console", "json"] = _setting(
        "auto", "`console` for people, `json` for machines, `auto`: console on a terminal, else JSON.", reload=True
    )


class Config(BaseSettings):
    """All settings. ``Config()`` is the defaults alone: only ``load`` looks at a file or the environment."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", validate_default=True)

    node: Node = Node()
    listen: Listen = Listen()
    tls: Tls = Tls()
    auth: Auth = Auth()
    storage: Storage = Storage()
    limits: Limits = Limits()
    admin: Admin = Admin()
    telemetry: Telemetry = Telemetry()
    log: Log = Log()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)

    @model_validator(mode="after")
    def _plain_text_stays_at_home(self) -> Config:
        if not self.tls.enabled and not self.tls.insecure:
            for name in ("websocket", "tcp"):
                text = getattr(self.listen, name)
                if text and not is_loopback(address(text)[0]):
                    raise ValueError(
                        f"listen.{name} = {text!r} would carry tokens over the network in the clear: "
                        "use a loopback address, tls.enabled = true, or tls.insecure = true if you accept that"
                    )
        return self


@dataclass(frozen=True, slots=True)
class Setting:
    """One declared setting; defaults as a person reads them, ``dev`` where ``--dev`` has another one."""

    path: tuple[str, ...]
    default: str
    dev: str | None
    help: str
    reloadable: bool
    secret: bool

    @property
    def dotted(self) -> str:
        return ".".join(self.path)

    @property
    def variable(self) -> str:
        return ENVIRONMENT_PREFIX + DELIMITER.join(self.path).upper()


def settings(model: type[BaseModel] = Config, path: tuple[str, ...] = ()) -> Iterator[Setting]:
    """Every setting, in the order of its declaration."""
    for name, field in model.model_fields.items():
        here = (*path, name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from settings(field.annotation, here)
            continue
        extra = field.json_schema_extra
        assert isinstance(extra, dict), here
        yield Setting(
            path=here,
            default=str(extra["shown"] or _shown(field.default)),
            dev=None if extra["dev"] is None else _shown(extra["dev"]),
            help=field.description or "",
            reloadable=bool(extra["reloadable"]),
            secret=bool(extra["secret"]),
        )


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)
