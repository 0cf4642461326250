"""A device gets its credential from a line of text, keeps it, and forgets it. Loaded when it has none."""

import gc
import json
import os
from binascii import unhexlify
from hashlib import sha256

from . import Device, RSocketError


def save(path="device.json", **changes):
    """Change settings in the file: all of them or, when the power is cut, none."""
    kept = {}
    try:
        with open(path) as f:
            kept = json.load(f)
    except (OSError, ValueError):
        pass
    kept.update(changes)
    with open(path + "~", "w") as f:
        json.dump(kept, f)
    os.rename(path + "~", path)


def erase(*files):
    """Factory reset: no settings, no credential, no authority, and none of the application's `files`."""
    for name in ("device.json", "device.json~", "ca.der") + files:
        try:
            os.remove(name)
        except OSError:
            pass


async def authority(url, pin):
    """The DER of the node's authority, whose SHA-256 in hexadecimal is `pin`. It comes from the node, over a connection
    that is not verified and is told nothing. ValueError when it is another one."""
    from .tls import certificates, unverified
    from .ws import WebSocket

    gc.collect()
    host, _, port = url.split("/")[2].partition(":")
    ws = WebSocket(0, None)
    pem = b""
    try:
        await ws.open(host, int(port or 443), "/ca.pem", unverified(), [])
    except RSocketError as e:  # what it is not is an upgrade
        while e.code == 200 and len(pem) < 4096 and pem[-8:] != b"-----END":
            pem += await ws.read(1)
    finally:
        ws.abort()
    for der in certificates(pem):
        if sha256(der).digest() == unhexlify(pin):
            return der
    raise ValueError("another authority")


async def enrol(line, device_id="", **settings):
    """Exchange the one-time token of an enrolment line (`gateway enroll create --line`) for a credential and save that,
    or save the credential of a credential line (`gateway device add`). Returns what was saved.

    ValueError: it is no such line, or another authority's. RSocketError: the node says no. OSError, EOFError or
    asyncio.TimeoutError: there is no way to the node. `settings` are the Device's.
    """
    url, _, rest = line.strip().partition("#")
    try:
        given = dict([part.split("=") for part in rest.split("&")])
        token = given.get("token") or given["enroll"]
    except (ValueError, KeyError):
        raise ValueError("no enrolment line")
    kept = {"url": url, "token": token, "device_id": given.get("device")}
    if "ca" in given:
        settings["tls"] = tls = {"ca": await authority(url, given["ca"])}
        with open("ca.der", "wb") as f:
            f.write(tls["ca"])
        kept["ca"] = "ca.der"
    if "enroll" in given:
        device = Device(url, "new", token, **settings)
        claim = {"token": token}
        if device_id:
            claim["device_id"] = device_id
        await device.connect()
        try:
            kept.update(json.loads((await device.request_response("gateway.enroll", json.dumps(claim).encode()))[0]))
        finally:
            await device.close()
    save(**kept)
    return kept
