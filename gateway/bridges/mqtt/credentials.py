"""What a bridge shows its broker, and whom it believes to be it: read anew for each connection.

A token is the password. Whether it is a JWT or something that only the broker understands is seen by looking: of a JWT
it is known when it runs out, and the connection is renewed before that.
"""

from __future__ import annotations

import base64
import json
import math
import os
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gateway.bridges.mqtt.message import Message
from gateway.bridges.mqtt.session import Dial
from gateway.errors import BridgeError

if TYPE_CHECKING:
    from gateway.documents.bridge import Bridge
    from gateway.documents.broker import Tls

#: Of a password or token.
MAX_BYTES: Final = 64 * 1024
#: The largest packet that fits into a frame with what goes before it.
MAX_PACKET: Final = 15 * 1024 * 1024

#: Signs a token for an audience that lives for so many seconds.
Sign = Callable[[str, float], str]


def dial_of(spec: Bridge, sign: Sign, now: float, will: Message | None = None) -> Dial:
    """What to connect with at `now`, in Unix seconds. It reads files. Raises BridgeError."""
    broker = spec.mqtt
    password, expires_at = None, None
    if broker.password_file is not None:
        password = _secret(broker.password_file)
    elif broker.token is not None:
        token = broker.token
        password = _secret(token.file) if token.file is not None else sign(token.audience or "", token.ttl)
        expires_at = expiry_of(password)
        if expires_at is not None and expires_at <= now:
            raise BridgeError("its token has run out: write a new one into its file", reason="mqtt_token_expired")
    secure = any(each.tls for each in broker.endpoints)
    return Dial(
        client_id=spec.client_id,
        version=broker.version,
        clean_start=broker.clean_start,
        session_expiry_s=0 if broker.clean_start else round(broker.session_expiry),
        keepalive_s=max(1, round(broker.keepalive)),
        receive_maximum=broker.receive_maximum,
        max_packet=min(broker.max_packet, MAX_PACKET),
        connect_timeout_s=broker.connect_timeout,
        # MQTT 3.1.1 has no password without a name.
        username=spec.client_id if broker.username is None and password is not None else broker.username,
        password=password,
        expires_at=expires_at,
        tls=context_of(broker.tls) if secure else None,
        server_name=broker.tls.server_name,
        will=will,
    )


def context_of(tls: Tls) -> ssl.SSLContext:
    """Raises BridgeError for a file that cannot be used."""
    path = tls.ca
    try:
        context = ssl.create_default_context(cafile=tls.ca)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if tls.insecure:
            context.check_hostname = False
        if tls.certificate is not None and tls.key is not None:
            for path in (tls.certificate, tls.key):
                Path(path).open("rb").close()
            path = f"{tls.certificate}, {tls.key}"
            context.load_cert_chain(tls.certificate, tls.key)
    except (OSError, ValueError) as error:
        raise BridgeError(f"tls: {path}: {getattr(error, 'strerror', None) or error}", reason="mqtt_tls") from error
    return context


def _secret(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            text = file.read(MAX_BYTES + 1).decode().strip()
    except PermissionError as error:
        raise BridgeError(f"{path}: {error.strerror} for uid {os.geteuid()}", reason="mqtt_credentials") from error
    except (OSError, ValueError) as error:
        raise BridgeError(f"{path}: {getattr(error, 'strerror', None) or error}", reason="mqtt_credentials") from error
    if not text or len(text) > MAX_BYTES:
        raise BridgeError(f"{path} holds no password", reason="mqtt_credentials")
    return text


def expiry_of(token: str) -> float | None:
    """`exp` of a JWT, in Unix seconds; None for what is none, or has none. It is not ours to verify."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        expires_at = float(claims["exp"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return expires_at if math.isfinite(expires_at) else None
