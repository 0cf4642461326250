"""A device's credential as it can be copied: one line, shell variables, and programs that use it.

`gateway device add` prints them, the dashboard shows them. The line is the address with the rest behind `#`, which no
client sends anywhere: `wss://host:7878/rsocket#device=…`. Must not know: where a credential comes from.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qs, quote, urlsplit

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


def browser(given: Credential) -> str:
    return f'''import {{connect}} from "./gateway-client.js";

const link = connect("{given.url}", {{
  token: "{given.token}",
  services: ["{given.device}"],
  routes: {{hello: (payload) => `hello ${{payload.text()}}`}},
}});
await link.online();
'''


#: By what it is called: the title, and the program for a device.
PROGRAMS: Final[dict[str, tuple[str, Callable[[Credential], str]]]] = {
    "micropython": ("MicroPython, as main.py beside device_sdk/", micropython),
    "python": ("Python", python),
    "command-line": ("Command line, simulated", command_line),
    "browser": ("Phone or browser, with gateway-client.js", browser),
    "javascript": ("Phone or browser, with rsocket-js 1.0", javascript),
}


def _fingerprint(pem: bytes) -> str:
    import ssl

    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem.decode())).hexdigest()
