import asyncio
import time

from gateway.observe.loop_lag import LoopLagProbe


class Reports:
    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._changed = asyncio.Event()

    def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        self._changed.set()

    async def next(self) -> float:
        self._changed.clear()
        await self._changed.wait()
        return self.seconds[-1]


async def test_a_held_loop_shows_as_lag() -> None:
    reports = Reports()
    probe = LoopLagProbe(reports, interval=0.005)
    probe.start()
    assert await reports.next() >= 0
    time.sleep(0.1)  # noqa: ASYNC251  holding the loop is the point
    assert await reports.next() >= 0.08
    probe.stop()


async def test_it_reports_until_it_is_stopped() -> None:
    reports = Reports()
    probe = LoopLagProbe(reports, interval=0.001)
    probe.start()
    probe.start()
    for _ in range(3):
        await reports.next()
    probe.stop()
    probe.stop()
    seen = len(reports.seconds)
    await asyncio.sleep(0.02)
    assert len(reports.seconds) == seen
