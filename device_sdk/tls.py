"""TLS with verification on. Loaded only for wss://."""

import ssl
from binascii import a2b_base64


def certificates(text):
    """Yield DER certificates from DER or PEM, one at a time: most firmware refuses PEM."""
    if isinstance(text, str):
        text = text.encode()
    at = text.find(b"-----BEGIN CERTIFICATE-----")
    if at < 0:
        yield text
    while at >= 0:
        end = text.find(b"-----END", at)
        yield a2b_base64(memoryview(text)[at + 27 : end])
        at = text.find(b"-----BEGIN CERTIFICATE-----", end)


def unverified():
    ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    ctx.check_hostname = False
    ctx.verify_mode = ssl.CERT_NONE
    return ctx


def context(device):
    """A client context. MicroPython's `ssl` starts with verification off, so it is said in so many words here."""
    tls = device.tls
    if not tls:
        return unverified()
    if not isinstance(tls, dict):
        return tls
    if "psk" in tls:
        from .psk import shared

        return shared(*tls["psk"])
    ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    ctx.verify_mode = ssl.CERT_REQUIRED
    for der in certificates(tls["ca"]):
        ctx.load_verify_locations(cadata=der)
    if "cert" in tls:
        ctx.load_cert_chain(tls["cert"], tls["key"])
    return ctx
