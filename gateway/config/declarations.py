"""Every setting: its default, its help, and whether a running node can take a new value.

A section is a table of the TOML file. Only what the program reads is declared. Knows nothing of where values come from
(``config.loading``) and of what they are for.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from gateway.config.federation import Federation
from gateway.config.limits import Limits
from gateway.config.links import Links
from gateway.config.values import (
    Address,
    File,
    GatewayUrl,
    Labels,
    Section,
    Texts,
    UrlPath,
    address,
    is_loopback,
    setting,
)

ENVIRONMENT_PREFIX = "GATEWAY__"
DELIMITER = "__"


class Node(Section):
    """The process itself."""

    name: str = setting(
        platform.node() or "gateway",
        "Name of this node as others see it, in readiness answers and with each caller's identity.",
        shown="the host's name",
        min_length=1,
        max_length=255,
    )
    data: Path = setting(
        Path("gateway-data"),
        "Directory of everything that must outlive the process: identity, keys, certificates.",
    )
    advertised_url: GatewayUrl = setting(
        "",
        "Address under which devices reach this node, as they are told with their credential: "
        "`wss://gateway.example.org:7878/rsocket`. Its host belongs to the certificate that the node issues itself.",
        shown="from `listen` and the host's name",
        reload=True,
    )
    labels: Labels = setting(
        (),
        'Where this node is: `["site=7", "region=eu"]`. Services registered here have them as tags, and `edge=` '
        "and the node's name, unless they say otherwise; `Service` documents choose by them (docs/governance.md), "
        "and a bundle has documents for nodes with certain labels (docs/bundles.md).",
    )
    workers: int = setting(
        1,
        "Processes of this node, which share its listeners, for more than one core (docs/workers.md). Linux only.",
        ge=1,
        le=64,
    )

    @property
    def labelled(self) -> dict[str, str]:
        """The labels by name."""
        return {name: value for name, _, value in (label.partition("=") for label in self.labels)}

    @model_validator(mode="after")
    def _can_share(self) -> Node:
        if self.workers > 1 and sys.platform != "linux":
            raise ValueError("more than one worker needs SO_REUSEPORT as Linux has it: workers = 1 elsewhere")
        return self


class Listen(Section):
    """Where RSocket is accepted."""

    websocket: Address = setting(
        "0.0.0.0:7878",
        "Address for RSocket over WebSocket; also answers `GET /healthz` and `/phone/`. Empty: not opened.",
        dev="127.0.0.1:7878",
    )
    tcp: Address = setting("0.0.0.0:7879", "Address for RSocket over TCP. Empty: not opened.", dev="127.0.0.1:7879")
    path: UrlPath = setting("/rsocket", "Path of the WebSocket endpoint; `/` is accepted as well.")
    origins: Texts = setting(
        (),
        "Values of `Origin` from which web pages may connect. A client that sends no `Origin` is no web page and may. "
        "Separated by commas in the environment.",
        reload=True,
    )
    pages: bool = setting(
        True, "Whether the WebSocket listener gives browsers the phone page, at `/phone/`: files without a secret."
    )
    backlog: int = setting(
        1024, "Connections that the system keeps waiting to be accepted, on each listener.", ge=1, le=65535
    )


class Tls(Section):
    """Encryption of both RSocket listeners: TLS 1.2 and 1.3."""

    enabled: bool = setting(
        True, "Whether the listeners speak TLS. Without it they may only be on loopback addresses.", dev=False
    )
    insecure: bool = setting(
        False,
        "Allow plain connections on addresses that others can reach. Tokens then cross the network in the clear.",
    )
    certificate: File = setting(None, "PEM file with the listeners' certificate chain. Unset: the node issues its own.")
    key: File = setting(None, "PEM file with the private key of `tls.certificate`.")
    psk_file: File = setting(
        None,
        "File with keys for devices that have no room for certificates (TLS-PSK): `identity:key` a line, the key in "
        "hexadecimal, of 16 bytes at least. Read again when it changes. Needs Python 3.13.",
    )
    names: Texts = setting(
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

    mode: Literal["token", "off"] = setting(
        "token", "`token`: a valid token opens a connection. `off`: everybody may do everything."
    )
    audience: str = setting("gateway", "The `aud` that a token must have.", reload=True, min_length=1)
    max_lifetime_s: int = setting(
        86_400, "Longest life of a token, from `iat` to `exp`, in seconds.", reload=True, ge=60, le=366 * 86_400
    )
    leeway_s: int = setting(
        60, "Seconds by which the clocks of an issuer and of this node may differ.", reload=True, ge=0, le=600
    )
    registered_only: bool = setting(
        False,
        "Whether devices and services must be registered. If not, a valid token of one that is not is accepted, too.",
        reload=True,
    )
    device_ttl_s: int = setting(
        3600,
        "Life of a registered device's token, in seconds, where nobody says otherwise; connected devices renew it.",
        reload=True,
        ge=60,
        le=366 * 86_400,
    )
    renewal_grace_s: int = setting(
        30 * 86_400,
        "Seconds after its token has run out in which a device may renew it with its own key.",
        reload=True,
        ge=0,
        le=366 * 86_400,
    )


class Storage(Section):
    """The database of devices, credentials, users and the audit trail, in `node.data`."""

    max_bytes: int = setting(
        1024 * 1024 * 1024,
        "Size that the database may grow to. Beyond it changes are refused, but for those that make room or take "
        "rights away; reads go on.",
        ge=1024 * 1024,
        le=2**40,
    )


class Spool(Section):
    """The file of messages that wait, in `node.data`. Which ones do is for documents to say."""

    max_bytes: int = setting(
        1280 * 1024 * 1024,
        "Size that the file may grow to, for everything that waits together.",
        ge=1024 * 1024,
        le=2**40,
    )
    group_messages: int = setting(
        100, "Messages that wait for one write to the disk; it begins with so many at the latest.", ge=1, le=4096
    )
    group_ms: int = setting(
        20,
        "Milliseconds that a message waits for others to be written with. SD cards want more: each write wears them.",
        ge=0,
        le=1000,
    )
    start_jitter_s: float = setting(
        30.0,
        "A backlog of more than 1000 messages begins to go over a new link after a random time up to this, so that not "
        "all edges that are back begin at once.",
        ge=0,
        le=3600,
    )


class Firmware(Section):
    """Images for devices, in `node.data`, and how devices ask for them."""

    max_bytes: int = setting(
        256 * 1024 * 1024, "Bytes of all images together. Beyond it none is taken.", ge=1024 * 1024, le=2**40
    )
    max_image_bytes: int = setting(16 * 1024 * 1024, "Bytes of one image.", ge=1024, le=2**32)
    publishers: Texts = setting(
        (),
        "Ed25519 public keys, base64url of their 32 bytes, of which one must have signed an image; none: nobody has "
        "to. Separated by commas in the environment.",
        reload=True,
    )
    check_s: int = setting(
        3600, "Seconds after which a device asks whether there is an update.", reload=True, ge=10, le=30 * 86_400
    )


class Admin(Section):
    """The admin API."""

    listen: Address = setting(
        "127.0.0.1:9878",
        "Address of the admin API. Empty: not opened. On an address that others can reach it speaks TLS, with the "
        "listeners' certificate.",
    )
    insecure: bool = setting(
        False, "Speak plain HTTP on such an address too. Passwords and tokens then cross the network in the clear."
    )
    hosts: Texts = setting(
        (),
        "Names under which the admin API is asked for, besides localhost, `tls.names`, the host's own name and every "
        "address. Others get 421. Separated by commas in the environment.",
        reload=True,
    )
    requests_per_second: int = setting(
        20, "Requests a second of one token, or of one address without a token; 0: no limit. Others get 429.", ge=0
    )
    max_streams: int = setting(
        5, "Event streams that one user or API key may have open; others get 429.", reload=True, ge=1, le=64
    )


class Telemetry(Section):
    """`/metrics`, `/livez`, `/readyz`, `/version`: read-only, no secrets, no authentication."""

    listen: Address = setting("127.0.0.1:9879", "Address of the telemetry port. Empty: not opened.")


class Log(Section):
    """The node's log, on standard error."""

    level: Literal["debug", "info", "warning", "error"] = setting(
        "info", "Least severity that is written.", reload=True
    )
    format: Literal["auto", "console", "json"] = setting(
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
    spool: Spool = Spool()
    firmware: Firmware = Firmware()
    limits: Limits = Limits()
    links: Links = Links()
    federation: Federation = Federation()
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


@cache
def settings() -> tuple[Setting, ...]:
    """Every setting, in the order of its declaration."""
    return tuple(_settings(Config, ()))


def _settings(model: type[BaseModel], path: tuple[str, ...]) -> Iterator[Setting]:
    for name, field in model.model_fields.items():
        here = (*path, name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from _settings(field.annotation, here)
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
