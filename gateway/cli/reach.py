"""The checks of `gateway doctor` that use the network: ports, who reaches them, the advertised URL, readiness."""

from __future__ import annotations

import errno
import ipaddress
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from urllib.parse import urlsplit

from gateway.cli.checks import Scene
from gateway.cli.diagnosis import Finding, error, ok, skipped, warning
from gateway.cli.target import from_here
from gateway.config import address, advertised_url, is_loopback

TIMEOUT_S = 5.0
#: Where Docker puts containers if not told otherwise: nobody outside of the machine reaches them there.
BRIDGE = ipaddress.ip_network("172.17.0.0/16")
DEFAULT_PORTS = {"ws": 80, "wss": 443, "tcp": 7879, "tls": 7879}


def ports(scene: Scene) -> Iterator[Finding]:
    if scene.runtime is not None:
        yield ok("ports", f"a node runs here (process {scene.runtime.pid}) and has its ports")
        return
    taken = [(name, text, problem) for name, text in _addresses(scene) if (problem := _not_to_be_had(*address(text)))]
    if taken:
        port = address(taken[0][1])[1]
        fix = f"see who has it (ss -ltnp 'sport = :{port}') and end that, or choose another port"
        said = "; ".join(f"{name} = {text}: {problem}" for name, text, problem in taken)
        yield error("ports", said, fix)
    else:
        yield ok("ports", "no node runs here, and the ports are free")


def reachable(scene: Scene) -> Iterator[Finding]:
    listen = scene.config.listen
    open_ones = [text for text in (listen.websocket, listen.tcp) if text]
    if not open_ones:
        yield error("reachable", "no listener is open", 'set listen.websocket = "0.0.0.0:7878"')
    elif all(is_loopback(address(text)[0]) for text in open_ones):
        port = address(open_ones[0])[1]
        yield warning(
            "reachable",
            f"loopback only ({', '.join(open_ones)}): devices on other machines cannot reach this node",
            f'set listen.websocket = "0.0.0.0:{port}" (or run without --dev)',
        )
    else:
        yield ok("reachable", f"listeners: {', '.join(open_ones)}")


def advertised(scene: Scene) -> Iterator[Finding]:
    url = advertised_url(scene.config)
    said = bool(scene.config.node.advertised_url)
    if not url:
        yield skipped("advertised-url", "there is no WebSocket listener, and node.advertised_url is not set")
        return
    if scene.runtime is None:
        yield skipped("advertised-url", f"{url} is not dialed: no node runs here")
        return
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or DEFAULT_PORTS[parts.scheme]
    if not said:
        port = urlsplit(scene.runtime.websocket).port or port
    fix = 'set node.advertised_url to what devices can reach, as in "wss://gateway.example.org:7878/rsocket"'
    problem = _dialed(scene, parts.scheme, host, port)
    if problem:
        yield error("advertised-url", f"{url}: {problem}", fix)
    elif _is_bridge(host):
        yield warning("advertised-url", f"{url} is an address inside of Docker: others do not reach it", fix)
    elif not said:
        yield ok("advertised-url", f"{url} answers here; set node.advertised_url if devices know it otherwise")
    else:
        yield ok("advertised-url", f"{url} answers")


def ready(scene: Scene) -> Iterator[Finding]:
    runtime = scene.runtime
    if runtime is None or not runtime.telemetry:
        yield skipped("node-ready", "no node runs here" if runtime is None else "telemetry.listen is empty")
        return
    url = from_here(runtime.telemetry)
    try:
        with _opener().open(f"{url}/readyz?verbose=1", timeout=TIMEOUT_S):
            yield ok("node-ready", "the node takes connections")
    except urllib.error.HTTPError as answer:
        with answer:
            text = " ".join(answer.read(2000).decode(errors="replace").split())
        yield error("node-ready", f"the node is not ready: {text}", "see the node's log")
    except OSError as problem:
        yield error("node-ready", f"{url} does not answer: {problem}", "see the node's log; restart it if it hangs")


def _addresses(scene: Scene) -> Iterator[tuple[str, str]]:
    config = scene.config
    for name, text in (
        ("listen.websocket", config.listen.websocket),
        ("listen.tcp", config.listen.tcp),
        ("admin.listen", config.admin.listen),
        ("telemetry.listen", config.telemetry.listen),
    ):
        if text:
            yield name, text


def _not_to_be_had(host: str, port: int) -> str:
    """Why nobody can listen there, or nothing."""
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
    except OSError as problem:
        if problem.errno == errno.EADDRINUSE:
            return "somebody else listens there"
        return problem.strerror or str(problem)
    return ""


def _dialed(scene: Scene, scheme: str, host: str, port: int) -> str:
    """Connect as a device would; why that fails, or nothing."""
    try:
        link = socket.create_connection((host, port), TIMEOUT_S)
    except socket.gaierror:
        return f"the name {host} is not known here"
    except OSError as problem:
        return f"nobody answers ({problem.strerror or problem})"
    with link:
        if scheme not in ("wss", "tls"):
            return "" if scheme == "tcp" else _greeted(link, host)
        ca = scene.data / "identity" / "ca.pem"
        trusted = ssl.create_default_context()
        if scene.config.tls.certificate is None and ca.exists():
            trusted.load_verify_locations(ca)
        try:
            with trusted.wrap_socket(link, server_hostname=host) as secure:
                return "" if scheme == "tls" else _greeted(secure, host)
        except ssl.SSLCertVerificationError as problem:
            return f"its certificate is not trusted ({problem.verify_message})"
        except OSError as problem:
            return f"no TLS there ({problem})"


def _greeted(link: socket.socket, host: str) -> str:
    """Whether a gateway is at the other end: it answers `/healthz`."""
    try:
        link.sendall(f"GET /healthz HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        answer = link.recv(64)
    except OSError as problem:
        return f"it does not answer ({problem})"
    status = answer.split(b" ")[1:2]
    return "" if status == [b"200"] else f"no gateway is there (it answered {answer[:40]!r})"


def _is_bridge(host: str) -> bool:
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        return False
    return found in BRIDGE


def _opener() -> urllib.request.OpenerDirector:
    """Without a proxy: what is asked is on this machine."""
    return urllib.request.build_opener(urllib.request.ProxyHandler({}))
