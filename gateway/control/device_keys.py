"""What a device proves itself with when its token has run out: a signature over a challenge of this node.

A device that can keeps a key pair and registers the public half (Ed25519 or P-256). One that cannot is given a secret
when it enrols and answers with an HMAC-SHA256. That secret is made from this node's own key, the device and the
credential, so nothing of it is stored. A challenge is made the same way: it says when it was made and for which
connection, and only this node can make one.

    proof = sign(b"gateway-renew\\n" + challenge)      signature or HMAC, base64url without padding
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from gateway.control.identity import Identity
from gateway.errors import InvalidChange

CONTEXT = b"gateway-renew\n"
CHALLENGE_S = 60.0

_HEAD = struct.Struct(">d8s")
_MAC_BYTES = 16


def public_key_of(pem: str, pointer: str = "/public_key") -> tuple[str, str]:
    """The key id and the normal form of a device's public key. Raises InvalidChange."""
    try:
        key = load_pem_public_key(pem.encode())
    except (ValueError, TypeError) as error:
        raise InvalidChange("this is no public key in PEM", pointer) from error
    if not isinstance(key, Ed25519PublicKey) and not (
        isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1)
    ):
        raise InvalidChange("a device's key is Ed25519 or P-256", pointer)
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    text = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    return hashlib.sha256(der).hexdigest()[:16], text


class DeviceProofs:
    """Challenges of one node, and the proofs that answer them."""

    def __init__(self, identity: Identity) -> None:
        self._challenges = identity.secret_for("renewal challenges")
        self._secrets = identity.secret_for("device secrets")

    def secret(self, device_id: str, credential_id: str) -> str:
        """The secret that goes with a credential of type `secret`: base64url of 32 bytes."""
        return _text(self._secret(device_id, credential_id))

    def challenge(self, subject: str, connection: int, now: float) -> str:
        head = _HEAD.pack(now, secrets.token_bytes(8))
        return _text(head + self._mac(head, subject, connection))

    def is_fresh(self, challenge: str, subject: str, connection: int, now: float) -> bool:
        """Whether this node made it, for this connection, within the last minute."""
        raw = _bytes(challenge)
        head, mac = raw[: _HEAD.size], raw[_HEAD.size :]
        if len(head) != _HEAD.size or not hmac.compare_digest(mac, self._mac(head, subject, connection)):
            return False
        made_at, _ = _HEAD.unpack(head)
        return bool(0 <= now - made_at <= CHALLENGE_S)

    def holds(self, challenge: str, proof: str, device_id: str, credential_id: str, public_key: str | None) -> bool:
        """Whether the proof was made with this credential: its public key, or its secret where it has none."""
        message, raw = CONTEXT + challenge.encode(), _bytes(proof)
        if public_key is None:
            wanted = hmac.digest(self._secret(device_id, credential_id), message, "sha256")
            return hmac.compare_digest(raw, wanted)
        key = load_pem_public_key(public_key.encode())
        try:
            if isinstance(key, Ed25519PublicKey):
                key.verify(raw, message)
            elif isinstance(key, EllipticCurvePublicKey):
                key.verify(raw, message, ECDSA(SHA256()))
            else:
                return False
        except InvalidSignature:
            return False
        return True

    def firmware_mac(self, device_id: str, credential_id: str, manifest: bytes) -> str:
        """What makes a manifest one of this node for this device: HMAC-SHA256 with its secret, hexadecimal."""
        return hmac.new(self._secret(device_id, credential_id), manifest, "sha256").hexdigest()

    def _secret(self, device_id: str, credential_id: str) -> bytes:
        return hmac.digest(self._secrets, f"{device_id}\n{credential_id}".encode(), "sha256")

    def _mac(self, head: bytes, subject: str, connection: int) -> bytes:
        return hmac.digest(self._challenges, head + f"{subject}\n{connection}".encode(), "sha256")[:_MAC_BYTES]


def _text(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    """What a text stands for; nothing where it is no base64url."""
    try:
        return urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        return b""
