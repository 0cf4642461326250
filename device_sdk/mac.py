"""HMAC-SHA256 with the secret that a device got when it enrolled. MicroPython has no `hmac`."""

from binascii import a2b_base64
from hashlib import sha256


def mac(secret, message):
    """`secret`: base64url of 32 bytes, as text; `message`: bytes. Returns 32 bytes."""
    key = a2b_base64(secret.replace("-", "+").replace("_", "/") + "=") + bytes(32)
    for pad in (0x36, 0x5C):
        message = sha256(bytes(b ^ pad for b in key) + message).digest()
    return message
