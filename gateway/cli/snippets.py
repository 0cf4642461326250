"""A device's credential as it can be copied: one line, a QR code, shell variables, and programs that use it.

The one line is the address with the rest behind `#`, which no client sends anywhere: `wss://host:7878/rsocket#device=…`.
Must not know: where a credential comes from.
"""

from __future__ import annotations

import hashlib
import io
import ipaddress
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from urllib.parse import parse_qs, quote, urlsplit

Choice = Literal["all", "qr", "env", "micropython"]

#: Where Docker puts containers if not told otherwise.
_BRIDGE = ipaddress.ip_network("172.17.0.0/16")


@dataclass(frozen=True, slots=True)
class Credential:
    """What a device is given. `ca` is the PEM of the node's own authority, where it has to be trusted."""

    device: str
    url: str
    token: str
    expires_at: str
    ca: bytes | None = None

    @property
    def secure(self) -> bool:
        return urlsplit(self.url).scheme in ("wss", "tls")

    @property
    def line(self) -> str:
        return f"{self.url}#device={quote(self.device)}&token={self.token}{self._pin}"

    @property
    def _pin(self) -> str:
        if self.ca is None or not self.secure:
            return ""
        return f"&ca={_fingerprint(self.ca)}"

    @property
    def unreachable(self) -> str:
        """Why no device elsewhere can use the address, or nothing."""
        host = urlsplit(self.url).hostname or ""
        try:
            found = ipaddress.ip_address(host)
        except ValueError:
            return "" if host else "no address for devices is known: set node.advertised_url"
        if found in _BRIDGE:
            return f"{self.url} is an address inside of Docker: set node.advertised_url to what devices can reach"
        return ""

    @property
    def local(self) -> bool:
        host = urlsplit(self.url).hostname or ""
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"


def parsed(line: str) -> tuple[str, str]:
    """Address and token of a one-line credential; the token is empty where there is none."""
    url, _, rest = line.partition("#")
    return url, parse_qs(rest).get("token", [""])[0]


def rendered(given: Credential, choice: Choice) -> str:
    """What `gateway device add` prints."""
    match choice:
        case "env":
            return environment(given)
        case "micropython":
            return micropython(given)
        case "qr":
            return _head(given) + "\n" + _qr(given.line)
    note = (
        ""
        if not given.local
        else "This address is for this machine alone: node.advertised_url is what others need.\n\n"
    )
    if given.ca is not None and given.secure:
        note += (
            "The node has an authority of its own, which the device must trust:\n"
            "  gateway ca export > ca.pem          for Python and the command line\n"
            "  gateway ca export --der > ca.der    for boards\n\n"
        )
    return "\n".join(
        (
            _head(given),
            note + _qr(given.line),
            _titled("MicroPython, as main.py beside device_sdk/", micropython(given)),
            _titled("Python", python(given)),
            _titled("Command line, simulated", command_line(given)),
            _titled("Phone or browser, with rsocket-js 1.0", javascript(given)),
        )
    )


def _head(given: Credential) -> str:
    try:
        until = datetime.fromisoformat(given.expires_at).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")
    except ValueError:
        until = given.expires_at
    return f"device      {given.device}\naddress     {given.url}\nexpires     {until}\ncredential  {given.line}\n"


def _titled(title: str, text: str) -> str:
    return f"--- {title}\n{text}"


def _qr(line: str) -> str:
    import segno

    out = io.StringIO()
    segno.make(line, error="l").terminal(out, compact=True, border=2)
    return out.getvalue()


def environment(given: Credential) -> str:
    return f"GATEWAY_URL={given.url}\nGATEWAY_DEVICE_ID={given.device}\nGATEWAY_TOKEN={given.token}\n"


def micropython(given: Credential) -> str:
    tls = ', tls={"ca": open("ca.der", "rb").read()}' if given.secure else ""
    return f'''import asyncio
from device_sdk import Device

device = Device("{given.url}", "{given.device}", "{given.token}"{tls})

@device.on("hello")
async def hello(data, meta):
    return b"hello " + data

async def main():
    device.start()
    while True:
        await asyncio.sleep(60)

asyncio.run(main())
'''


def python(given: Credential) -> str:
    ca = ', ca="ca.pem"' if given.secure else ""
    return f'''import asyncio
from gateway.client import Service

device = Service("{given.url}", "{given.token}", name="{given.device}"{ca})

@device.request_response("hello")
async def hello(data: bytes) -> bytes:
    return b"hello " + data

asyncio.run(device.run())
'''


def command_line(given: Credential) -> str:
    ca = " --ca ca.pem" if given.secure else ""
    return (
        f"gateway simulate --as {given.device} --url '{given.line}'{ca}\ngateway request {given.device}.hello world\n"
    )


def javascript(given: Credential) -> str:
    return f'''import {{RSocketConnector}} from "rsocket-core";
import {{WebsocketClientTransport}} from "rsocket-websocket-client";
import {{encodeBearerAuthMetadata, encodeCompositeMetadata, WellKnownMimeType}} from "rsocket-composite-metadata";

const token = "{given.token}";
const metadata = encodeCompositeMetadata([
  [WellKnownMimeType.MESSAGE_RSOCKET_AUTHENTICATION, encodeBearerAuthMetadata(token)],
]);
const link = await new RSocketConnector({{
  setup: {{metadataMimeType: "message/x.rsocket.composite-metadata.v0", payload: {{data: null, metadata}}}},
  transport: new WebsocketClientTransport({{url: "{given.url}"}}),
}}).connect();
'''


def _fingerprint(pem: bytes) -> str:
    import ssl

    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem.decode())).hexdigest()
