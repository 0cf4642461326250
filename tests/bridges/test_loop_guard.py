"""What keeps messages from going round."""

from __future__ import annotations

from gateway.bridges.mqtt.loop_guard import LoopGuard
from gateway.bridges.mqtt.message import Message, Properties


def message(*user: tuple[str, str], topic: str = "t", payload: bytes = b"x") -> Message:
    return Message(topic, payload, properties=Properties(user=user))


def test_what_has_passed_a_bridge_goes_no_further() -> None:
    here, there = LoopGuard("n1/a"), LoopGuard("n2/b")
    assert here.arriving(message(("k", "v")), 0.0) is None
    gone = here.leaving((("k", "v"),))
    assert gone == (("k", "v"), ("gateway-hops", "1"), ("gateway-via", "n1/a"))
    assert here.arriving(message(*gone), 0.0) == "via"
    assert there.arriving(message(*gone), 0.0) == "hops"
    farther = LoopGuard("n2/b", max_hops=2)
    assert farther.arriving(message(*gone), 0.0) is None
    twice = farther.leaving(gone)
    assert dict(twice)["gateway-hops"] == "2"
    assert farther.arriving(message(*twice), 0.0) == "via"
    assert [value for name, value in twice if name == "gateway-via"] == ["n1/a", "n2/b"]


def test_hivemq_counts_too() -> None:
    guard = LoopGuard("n/a", max_hops=2)
    assert guard.arriving(message(("hmq-bridge-hop-count", "1")), 0.0) is None
    assert guard.arriving(message(("hmq-bridge-hop-count", "2")), 0.0) == "hops"
    assert guard.leaving((("hmq-bridge-hop-count", "1"),)) == (
        ("hmq-bridge-hop-count", "2"),
        ("gateway-hops", "2"),
        ("gateway-via", "n/a"),
    )


def test_a_count_that_is_none_is_refused() -> None:
    guard = LoopGuard("n/a", max_hops=64)
    for text in ("", "-1", "1e3", "many", "9" * 40, "²"):
        assert guard.arriving(message(("gateway-hops", text)), 0.0) == "hops", text


def test_what_was_sent_and_comes_back() -> None:
    """For brokers of 3.1.1, which carry no user properties."""
    guard = LoopGuard("n/a", window_s=10.0)
    guard.sent(message(), 100.0)
    assert guard.arriving(message(), 105.0) is None
    assert guard.arriving(message(), 105.0, cached=True) == "repeat"
    assert guard.arriving(message()._replace(retain=True), 105.0, cached=True) == "repeat"
    assert guard.arriving(message(payload=b"y"), 105.0, cached=True) is None
    assert guard.arriving(message(topic="tx", payload=b""), 105.0, cached=True) is None
    assert guard.arriving(message(), 110.1, cached=True) is None
    assert len(guard) == 0


def test_what_is_remembered_is_bounded() -> None:
    guard = LoopGuard("n/a", entries=100)
    for at in range(1000):
        guard.sent(message(payload=str(at).encode()), 1.0)
    assert len(guard) == 100
    assert guard.arriving(message(payload=b"999"), 1.0, cached=True) == "repeat"
    assert guard.arriving(message(payload=b"0"), 1.0, cached=True) is None
