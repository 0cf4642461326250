"""Settings of the table that central nodes share, and of the engine that holds it."""

from __future__ import annotations

import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, model_validator

from gateway.config.values import File, Section, Texts, setting

_BUCKET = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")


def _checked_servers(servers: tuple[str, ...]) -> tuple[str, ...]:
    for server in servers:
        parts = urlsplit(server)
        if parts.scheme not in ("nats", "tls") or not parts.hostname:
            raise ValueError(f"{server!r} is no address of a nats-server: write nats://host:4222 or tls://host:4222")
        if parts.username or parts.password:
            raise ValueError("an address holds no credential: federation.nats_nkey_file names it")
    return servers


def _checked_bucket(text: str) -> str:
    if not _BUCKET.match(text):
        raise ValueError("must be 1 to 64 letters, digits, - and _")
    return text


class Federation(Section):
    """The routing table that central nodes share."""

    engine: Literal["embedded", "nats"] = setting(
        "embedded",
        "How central nodes know what is behind another. `embedded`: each tells the others all of its routes over its "
        "links; for a few. `nats`: they share a table in a bucket of NATS JetStream; needs the extra `[nats]`. All of "
        "them have the same.",
    )
    nats_servers: Annotated[Texts, AfterValidator(_checked_servers)] = setting(
        (),
        "Every server of the NATS cluster, as `nats://host:4222` or `tls://host:4222`, of version 2.12 or newer. "
        "Separated by commas in the environment.",
    )
    nats_nkey_file: File = setting(None, "File with the seed of this node's nkey, as `gateway engine key` makes it.")
    nats_tls_ca: File = setting(
        None, "PEM file with the authority of the NATS servers. Unset: the system's authorities, for `tls://`."
    )
    nats_tls_certificate: File = setting(
        None, "PEM file with this node's certificate, where the NATS servers ask for one."
    )
    nats_tls_key: File = setting(None, "PEM file with the private key of `federation.nats_tls_certificate`.")
    bucket: Annotated[str, AfterValidator(_checked_bucket)] = setting(
        "rt", "The key-value bucket that holds the table, as `gateway engine init` makes it."
    )

    @model_validator(mode="after")
    def _complete(self) -> Federation:
        if self.engine == "nats" and not self.nats_servers:
            raise ValueError("engine = 'nats' needs nats_servers")
        if (self.nats_tls_certificate is None) != (self.nats_tls_key is None):
            raise ValueError("nats_tls_certificate and nats_tls_key are set together or not at all")
        return self
