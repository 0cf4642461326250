"""The engine that the settings ask for."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING

from gateway.config import Federation
from gateway.errors import FederationError
from gateway.federation.table import EmbeddedStore
from gateway.federation.table.store import RouteStore

if TYPE_CHECKING:
    from gateway.federation.nats import NatsOptions


def store_for(
    settings: Federation, node: str, alarm: Callable[[str, str], None] = lambda slug, text: None
) -> RouteStore:
    """A store for the node of this name; nothing is connected yet.

    Raises:
        FederationError: the client library is missing (`engine_missing`), or a file of TLS cannot be used.
    """
    if settings.engine == "embedded":
        return EmbeddedStore()
    # The library is an extra, and costs every start that does not need it.
    from gateway.federation.nats import NatsStore

    return NatsStore(nats_options(settings, node), alarm=alarm)


def nats_options(settings: Federation, node: str) -> NatsOptions:
    """Where the engine is, and who this node is there. Raises FederationError as `store_for`."""
    from gateway.federation.nats import NatsOptions

    return NatsOptions(settings.nats_servers, node, settings.bucket, settings.nats_nkey_file, _tls(settings))


def _tls(settings: Federation) -> ssl.SSLContext | None:
    wanted = settings.nats_tls_ca is not None or settings.nats_tls_certificate is not None
    if not wanted and not any(server.startswith("tls://") for server in settings.nats_servers):
        return None
    ca, certificate, key = settings.nats_tls_ca, settings.nats_tls_certificate, settings.nats_tls_key
    setting, file = "nats_tls_ca", ca
    try:
        context = ssl.create_default_context(cafile=None if ca is None else str(ca))
        if certificate is not None and key is not None:
            setting, file = "nats_tls_certificate", certificate
            context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        # An error of TLS has a number where others have words.
        why = str(error) if isinstance(error, ssl.SSLError) else error.strerror
        raise FederationError(f"{file} (federation.{setting}) cannot be used: {why}", reason="engine_tls") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
