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
        yield a2b_base64(text[at + 27 : end])
        at = text.find(b"-----BEGIN CERTIFICATE-----", end)


def context(tls, insecure):
    """A client context. MicroPython's `ssl` starts with verification off, so it is said in so many words here."""
    if tls and not isinstance(tls, dict):
        return tls
    ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if insecure:
        ctx.check_hostname = False
        ctx.verify_mode = ssl.CERT_NONE
    else:
        ctx.verify_mode = ssl.CERT_REQUIRED
        for der in certificates(tls["ca"]):
            ctx.load_verify_locations(cadata=der)
    if tls and "cert" in tls:
        ctx.load_cert_chain(tls["cert"], tls["key"])
    return ctx
