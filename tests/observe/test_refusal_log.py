"""What is refused is said, and not each time."""

from __future__ import annotations

from gateway.observe.metrics import Counters
from gateway.observe.refusal_log import QUIET_S, RefusalLog


def test_first_at_once_then_with_their_number() -> None:
    counters = Counters()
    said: list[tuple[str, int]] = []
    log = RefusalLog(counters, lambda reason, count: said.append((reason, count)))
    log.tick(0)
    counters.refuse("max_streams")
    log.tick(1)
    assert said == [("max_streams", 1)]
    for _ in range(500):
        counters.refuse("max_streams")
        counters.close("accept_rate")
    log.tick(2)
    log.tick(1 + QUIET_S - 0.1)
    assert said == [("max_streams", 1), ("accept_rate", 500)]
    log.tick(1 + QUIET_S)
    assert said[2:] == [("max_streams", 500)]
    log.tick(10 * QUIET_S)
    assert len(said) == 3


def test_what_happens_all_the_time_is_not_said() -> None:
    counters = Counters()
    said: list[tuple[str, int]] = []
    for reason in ("peer_closed", "peer_reset", "drained", "token_expired"):
        counters.close(reason)
    RefusalLog(counters, lambda reason, count: said.append((reason, count))).tick(0)
    assert said == []
