"""Who is served next, and how fast a backlog goes out."""

from __future__ import annotations

from collections import Counter

from gateway.spool.pace import MIN_WINDOW, Pace
from gateway.spool.turns import Turns


def served(turns: Turns, ready: list[int], rounds: int, batch: int = 100) -> Counter[int]:
    count: Counter[int] = Counter()
    for _ in range(rounds):
        priority = turns.order(ready)[0]
        allowed = turns.allowance(priority, ready)
        taken = batch if allowed is None else min(batch, allowed)
        turns.took(priority, taken, ready)
        count[priority] += taken
    return count


def test_lower_classes_get_their_share_and_share_it() -> None:
    count = served(Turns(0.10), [0, 3, 9], 2000)
    total = sum(count.values())
    assert 0.88 <= count[0] / total <= 0.92
    assert 0.8 <= count[3] / count[9] <= 1.25


def test_without_a_share_the_most_important_goes_first_always() -> None:
    assert served(Turns(0.0), [2, 5], 100) == Counter({2: 10_000})


def test_alone_a_class_has_everything_and_saves_no_credit() -> None:
    turns = Turns(0.10)
    served(turns, [5], 100)
    assert turns.order([0, 5])[0] == 0


def test_the_window_grows_while_acknowledgements_are_quick() -> None:
    pace = Pace(window=512)
    for turn in range(200):
        pace.acknowledged(turn * 0.01, 0.01, 500)
    assert 512 < pace.window <= pace.max_window


def test_slow_acknowledgements_halve_it_once_a_round() -> None:
    pace = Pace(window=4096)
    pace.acknowledged(1.0, 0.01, 1)
    window = pace.window
    for late in range(4):
        pace.acknowledged(3.0 + late / 1000, 1.0, 500)
    assert pace.window == window // 2
    for turn in range(20):
        pace.lost(10.0 + turn)
    assert pace.window == MIN_WINDOW


def test_the_fastest_acknowledgement_is_forgotten_when_the_path_has_changed() -> None:
    pace = Pace(window=4096)
    pace.acknowledged(0.0, 0.01, 1)
    pace.acknowledged(100.0, 0.5, 1)
    assert pace.window >= 4096


def test_the_cap_leaves_a_share_to_live_traffic() -> None:
    pace = Pace(bytes_per_second=1_000_000, live_reserve=0.2)
    now, sent = 0.0, 0
    while now < 10:
        wait = pace.wait(now)
        if wait > 0:
            now += wait
            continue
        pace.sent(50_000)
        sent += 50_000
    assert 0.75e6 <= sent / 10 <= 0.85e6
