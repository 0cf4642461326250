"""What the benchmark says to other people's brokers: a broker's side is played by hand, byte for byte."""

from __future__ import annotations

import pytest

from bench.echo import Mqtt, Nats

PAYLOAD = b"x" * 32


@pytest.mark.parametrize("size", [0, 32, 4096])
def test_nats_messages_go_round(size: int) -> None:
    dialect, payload = Nats("nats"), b"x" * size
    request = dialect.request(7, 3, payload)
    assert request == b"PUB bench.echo _INBOX.c0007.0003 %d\r\n%b\r\n" % (size, payload)
    at_server = request.replace(b"PUB bench.echo ", b"MSG bench.echo 1 ", 1)
    assert len(at_server) == dialect.request_size(payload)
    answer = dialect.answers(at_server * 2)
    assert answer == 2 * (b"PUB _INBOX.c0007.0003 %d\r\n%b\r\n" % (size, payload))
    at_caller = b"MSG _INBOX.c0007.0003 1 %d\r\n%b\r\n" % (size, payload)
    assert len(at_caller) == dialect.answer_size(payload)
    assert dialect.requests(at_caller * 2) == request * 2


def test_nats_pings_are_taken_out_and_answered() -> None:
    dialect = Nats("nats")
    message = b"MSG _INBOX.c0007.0003 1 32\r\n" + PAYLOAD + b"\r\n"
    assert dialect.other(message + b"PING\r\n" + message) == (message * 2, b"PONG\r\n")
    assert dialect.other(message) == (message, b"")
    assert dialect.ready(b"INFO {}\r\nPONG\r\n")
    assert not dialect.ready(b"INFO {}\r\n")


@pytest.mark.parametrize("size", [0, 32, 4096, 70_000])
def test_mqtt_messages_go_round(size: int) -> None:
    dialect, payload = Mqtt("mosquitto"), b"x" * size
    request = dialect.request(7, 3, payload)
    assert request[0] == 0x30
    length, at, shift = 0, 1, 0
    while True:
        length |= (request[at] & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if not request[at - 1] & 0x80:
            break
    assert len(request) == at + length
    assert request[at:] == b"\x00\x14bench/ask/c0007/0003" + payload
    assert len(request) == dialect.request_size(payload) == dialect.answer_size(payload)
    answers = dialect.answers(request * 2)
    assert answers == request.replace(b"/ask/", b"/got/") * 2
    assert dialect.requests(answers) == request * 2


def test_mqtt_subscriptions() -> None:
    alone, several = Mqtt("mosquitto"), Mqtt("mosquitto", servers=2)
    assert alone.server_hello().endswith(b"\x00\x0bbench/ask/#\x00")
    assert several.server_hello().endswith(b"\x00\x18$share/bench/bench/ask/#\x00")
    assert alone.caller_hello(2) != alone.caller_hello(2), "client ids must differ"
    assert alone.ready(bytes.fromhex("20020000 9003000100"))
    assert not alone.ready(bytes.fromhex("20020005 9003000100"))
    assert not alone.ready(bytes.fromhex("20020000"))
