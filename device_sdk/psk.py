"""TLS with a key that both sides know, in place of certificates: `tls={"psk": (identity, key)}`, both bytes.

It needs no clock and little memory. MicroPython 1.29 and later; Python 3.13 and later.
"""

import ssl


def shared(identity, key):
    if hasattr(ssl, "tls"):  # MicroPython
        ctx = ssl.tls.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        ctx.psk_identity, ctx.psk_key = identity, key
        return ctx
    ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    ctx.check_hostname = False
    ctx.verify_mode = ssl.CERT_NONE
    ctx.maximum_version = ssl.TLSVersion.TLSv1_2
    # No suite with a certificate, which nobody would look at.
    ctx.set_ciphers("PSK+AESGCM")
    ctx.set_psk_client_callback(lambda hint: (identity.decode(), key))
    return ctx
