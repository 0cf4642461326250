"""One request to a service of the node's own, without the data plane around it."""

from __future__ import annotations

import pytest

from gateway.errors import NoRoute, RequestInvalid
from gateway.forwarding.exchange import Exchange, Request
from gateway.wire.frames import (
    MAX_REQUEST_N,
    Error,
    Frame,
    FrameType,
    RequestChannel,
    RequestFnf,
    RequestResponse,
    RequestStream,
    decode,
)
from tests.forwarding.plane_of import Site, complete, item


class Recorder:
    """What an exchange sent, and how often it said that it is over."""

    def __init__(self, site: Site, request: Request) -> None:
        self.frames: list[Frame] = []
        self.ends = 0
        self.exchange = Exchange(site.connect().connection, request, self._send, self._ended)

    def _send(self, frame: bytes) -> None:
        self.frames.append(decode(frame))

    def _ended(self, exchange: Exchange) -> None:
        assert exchange is self.exchange
        assert not exchange.open
        self.ends += 1


RESPONSE = RequestResponse(2, b"m", b"data")
STREAM = RequestStream(2, b"m", b"data", 2)
CHANNEL = RequestChannel(2, b"m", b"data", 2)
FNF = RequestFnf(2, b"m", b"data")


@pytest.mark.parametrize(
    ("request_", "interaction", "credit"),
    [
        (RESPONSE, FrameType.REQUEST_RESPONSE, 1),
        (FNF, FrameType.REQUEST_FNF, 1),
        (STREAM, FrameType.REQUEST_STREAM, 2),
        (CHANNEL, FrameType.REQUEST_CHANNEL, 2),
    ],
)
def test_what_a_handler_sees(site: Site, request_: Request, interaction: FrameType, credit: int) -> None:
    exchange = Recorder(site, request_).exchange
    assert (exchange.interaction, exchange.credit, exchange.data, exchange.open) == (interaction, credit, b"data", True)
    assert exchange.caller.principal.subject == "caller"
    assert exchange.reassembly is None


def test_a_request_that_is_not_complete_is_put_together_within_the_callers_limits(site: Site) -> None:
    """P42."""
    exchange = Recorder(site, RequestResponse(2, b"m", b"data", follows=True)).exchange
    assert exchange.reassembly is not None
    assert (exchange.reassembly.max_bytes, exchange.reassembly.max_fragments) == (16 * 1024 * 1024, 1024)


def test_reply_is_the_last_word(site: Site) -> None:
    recorder = Recorder(site, RESPONSE)
    recorder.exchange.reply(b"!")
    recorder.exchange.reply(b"again")
    recorder.exchange.complete()
    recorder.exchange.fail(NoRoute("x"))
    recorder.exchange.cancel()
    assert recorder.frames == [item(2, b"!", complete=True)]
    assert recorder.ends == 1


def test_send_keeps_to_the_credit(site: Site) -> None:
    """P31."""
    recorder = Recorder(site, STREAM)
    recorder.exchange.send(b"1")
    recorder.exchange.send(b"2")
    with pytest.raises(RequestInvalid, match="no credit"):
        recorder.exchange.send(b"3")
    recorder.exchange.grant(1)
    recorder.exchange.send(b"3")
    recorder.exchange.complete()
    assert recorder.frames == [item(2, b"1"), item(2, b"2"), item(2, b"3"), complete(2)]


def test_credit_saturates(site: Site) -> None:
    """P30, fault 25."""
    exchange = Recorder(site, STREAM).exchange
    exchange.grant(MAX_REQUEST_N)
    exchange.grant(MAX_REQUEST_N)
    assert exchange.credit == MAX_REQUEST_N


def test_credit_calls_the_handler_back_while_it_is_open(site: Site) -> None:
    recorder = Recorder(site, STREAM)
    calls = []
    recorder.exchange.on_credit = lambda: calls.append(recorder.exchange.credit)
    recorder.exchange.grant(3)
    recorder.exchange.complete()
    recorder.exchange.grant(3)
    assert calls == [5]


@pytest.mark.parametrize("how", ["cancel", "complete", "reply", "fail"])
def test_the_end_is_told_once_however_it_comes(site: Site, how: str) -> None:
    recorder = Recorder(site, STREAM)
    ends = []
    recorder.exchange.on_end = lambda: ends.append(how)
    arguments = {"reply": (b"!",), "fail": (NoRoute("x"),)}.get(how, ())
    for _ in range(2):
        getattr(recorder.exchange, how)(*arguments)
    recorder.exchange.cancel()
    assert ends == [how]
    assert recorder.ends == 1


def test_a_canceled_exchange_says_nothing(site: Site) -> None:
    recorder = Recorder(site, STREAM)
    recorder.exchange.cancel()
    recorder.exchange.complete()
    assert recorder.frames == []


def test_a_failure_has_its_code_and_text(site: Site) -> None:
    recorder = Recorder(site, CHANNEL)
    recorder.exchange.fail(RequestInvalid("not so"))
    assert recorder.frames == [Error(2, 0x204, "not so")]


def test_fire_and_forget_is_not_told_of_a_failure(site: Site) -> None:
    """P35."""
    recorder = Recorder(site, FNF)
    recorder.exchange.fail(RequestInvalid("not so"))
    assert recorder.frames == []
    assert recorder.ends == 1
