"""A device's credential as it can be copied: what `gateway device add` prints, piece by piece."""

from __future__ import annotations

import ast
import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.cli.snippets import rendered
from gateway.cli.target import target
from gateway.control.identity import Identity
from gateway.control.snippets import Credential, environment, micropython, parsed, python

GIVEN = Credential("kitchen", "wss://gw.example.org:7878/rsocket", "aa.bb.cc", "2026-11-24T08:00:00Z")


def test_one_line_is_read_back() -> None:
    """Behind the `#` is what no client sends anywhere; `--url` takes the whole line."""
    assert GIVEN.line == "wss://gw.example.org:7878/rsocket#device=kitchen&token=aa.bb.cc"
    assert parsed(GIVEN.line) == (GIVEN.url, GIVEN.token)
    assert parsed(GIVEN.url) == (GIVEN.url, "")
    settled = target(GIVEN.line, None, None, None, {})
    assert (settled.url, settled.token) == (GIVEN.url, GIVEN.token)
    assert target(GIVEN.line, "other", None, None, {}).token == "other"


def test_order_of_what_is_printed() -> None:
    """Name, advertised address, expiry, the line, the QR code, then examples."""
    text = rendered(GIVEN, "all")
    marks = ("device ", "address ", "expires ", "credential ", "▄", "MicroPython", "Python", "Command line", "Phone")
    at = [text.index(mark) for mark in marks]
    assert at == sorted(at)
    assert "for this machine alone" not in text
    assert "for this machine alone" in rendered(replace(GIVEN, url="ws://127.0.0.1:7878/rsocket"), "all")
    assert "MicroPython" not in rendered(GIVEN, "qr")


def test_an_authority_of_the_node_s_own(tmp_path: Path) -> None:
    """Its fingerprint is in the line, to be compared by whoever fetches it; how to get it is said."""
    identity = Identity.open(tmp_path / "data")
    given = replace(GIVEN, ca=identity.ca_path.read_bytes())
    pin = hashlib.sha256(identity.ca_der_path.read_bytes()).hexdigest()
    assert given.line == f"{GIVEN.line}&ca={pin}"
    assert "gateway ca export" in rendered(given, "all")
    assert replace(given, url="ws://gw.example.org/rsocket").line.endswith("&token=aa.bb.cc")


@pytest.mark.parametrize("program", [micropython, python])
def test_programs_are_programs(program: object) -> None:
    text = program(GIVEN)  # type: ignore[operator]
    ast.parse(text)
    assert GIVEN.token in text
    assert "ca." in text
    assert "ca." not in program(replace(GIVEN, url="ws://gw:7878/rsocket"))  # type: ignore[operator]


def test_environment() -> None:
    assert environment(GIVEN).splitlines() == [
        f"GATEWAY_URL={GIVEN.url}",
        "GATEWAY_DEVICE_ID=kitchen",
        "GATEWAY_TOKEN=aa.bb.cc",
    ]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ws://172.17.0.2:7878/rsocket", "inside of Docker"),
        ("", "set node.advertised_url"),
        ("ws://172.18.0.2:7878/rsocket", ""),
        ("ws://192.168.1.5:7878/rsocket", ""),
        ("wss://gw.example.org/rsocket", ""),
    ],
)
def test_addresses_that_no_device_reaches(url: str, said: str) -> None:
    """Complaint 9: no address of a container's inside is handed out."""
    problem = replace(GIVEN, url=url).unreachable
    assert said in problem
    assert bool(said) == bool(problem)
