"""A node acts by the bundles that it is offered: looks at each, keeps it, tries it, and goes back where it got worse.

Between the two planes and the links, like `linking`. What is on disk and in which order is `control.held_bundles`; what
"worse" is, `policy.health`; how bundles get here, `federation.distributing`. One bundle at a time; of several that are
offered meanwhile the newest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from gateway.control.held_bundles import MAX_REASON, Held, HeldBundles, HeldState, Parcel
from gateway.control.plane import ControlPlane
from gateway.documents.bundles import Facts, Manifest, parse
from gateway.errors import FederationError, StorageError
from gateway.observe.loggers import structlog
from gateway.policy.health import Pulse, Trial, Vitals

#: After how long a bundle that could not be taken is asked for again, in seconds.
AGAIN_S: Final = 30.0
ON_TRIAL: Final = "on trial"

_log = structlog.get_logger("gateway.bundles")


class Activating:
    """`facts`: what this node is chosen by. `vitals`: how it is now."""

    def __init__(
        self,
        facts: Facts,
        control: ControlPlane,
        vitals: Callable[[], Awaitable[Vitals]],
        monotonic: Callable[[], float],
    ) -> None:
        self.facts = facts
        #: Called when this node stands in another way than before, and when it wants to be offered again what it was.
        self.said: Callable[[], None] = lambda: None
        self.again: Callable[[], None] = lambda: None
        self._held: HeldBundles = control.held_bundles
        self._control = control
        self._vitals = vitals
        self._monotonic = monotonic
        self._offered: Parcel | None = None
        self._working: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[None] | None = None
        self._pulse = Pulse()
        self._trial: Trial | None = None
        self._trial_s = 0.0
        #: What was offered last and could not be taken: its id, attempt and why.
        self._refused: tuple[str, int, str] | None = None
        self._again_at: float | None = None
        self._said_ms = 0
        self._stopped = False

    # Life

    async def start(self) -> None:
        """Act by what is on disk, and go on where a bundle was when the process ended."""
        try:
            left = await self._held.resume()
        except StorageError as error:
            _log.error("how the trial of the bundle stands cannot be kept", why=error.text)
            left = None
        active = self._held.active
        if active is not None and active.trial:
            await self._begin_trial(self._held.trial_s)
        self._held.on_step = self._stepped
        if left is not None:
            self._working = asyncio.create_task(self._work(left), name="bundles")

    async def stop(self) -> None:
        self._stopped = True
        self._held.on_step = lambda held: None
        for task in (self._working, self._looking):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        try:
            await self._held.interrupted()
        except StorageError as error:
            # The next start takes it for a death; it is forgiven once.
            _log.warning("that this node ends in order cannot be kept", why=error.text)

    # What it is offered

    @property
    def place(self) -> tuple[str, int]:
        return self._held.place(self.facts)

    def offer(self, parcel: Parcel) -> None:
        """A bundle for this node."""
        self._offered = parcel
        if self._working is None and not self._stopped:
            self._working = asyncio.create_task(self._work(None), name="bundles")

    async def _work(self, left: Held | None) -> None:
        try:
            if left is not None:
                await self._go_on(left)
            while self._offered is not None:
                parcel, self._offered = self._offered, None
                await self._take(parcel)
        finally:
            self._working = None

    async def _go_on(self, held: Held) -> None:
        """A bundle that was on disk, and not acted by, when the process ended."""
        try:
            manifest, documents = await self._held.stored(held)
            await self._judge(held, manifest, documents)
        except (ValueError, StorageError) as error:
            self._refuse(held.id, held.attempt, f"it cannot be read: {error}")

    async def _take(self, parcel: Parcel) -> None:
        self._again_at = None
        try:
            manifest, documents = self._held.check(parcel, self.facts)
        except FederationError as error:
            if error.reason != "bundle_old":
                self._refuse(_key_of(parcel), parcel.attempt, error.text)
            return
        try:
            held = await self._held.receive(parcel, manifest, documents)
            await self._judge(held, manifest, documents)
        except StorageError as error:
            self._refuse(manifest.key, parcel.attempt, f"it cannot be stored: {error.text}")

    async def _judge(self, held: Held, manifest: Manifest, documents: dict[str, Any]) -> None:
        """Raises StorageError."""
        self._refused = None
        examined = self._held.examine(documents)
        if not examined.good:
            wrong = "; ".join(str(finding) for finding in examined.findings if not finding.warning)
            _log.warning("a bundle is rejected", bundle=manifest.version, why=wrong)
            await self._held.reject(held, wrong)
            return
        if held.state is HeldState.RECEIVED:
            held = await self._held.validated(held)
        before = self._held.active
        tries = manifest.trial_s > 0 and (before is None or before.id != held.id)
        vitals = await self._vitals() if tries else None
        now = self._monotonic()
        await self._held.activate(held, manifest, examined.documents, trial=tries)
        _log.info("acting by a bundle", bundle=manifest.version, documents=len(documents))
        self._trial = None
        if vitals is not None:
            self._trial = Trial(now, manifest.trial_s, vitals, self._pulse.before(now, vitals))

    def _refuse(self, key: str, attempt: int, why: str) -> None:
        """What is on disk stays as it is; it is asked for again in a while."""
        _log.warning("a bundle cannot be taken", why=why)
        self._refused = (key, attempt, why)
        self._again_at = self._monotonic() + AGAIN_S
        self.said()

    # The trial

    def look(self, now: float) -> None:
        """Every few seconds: how it is. `now` is monotonic."""
        if self._again_at is not None and now >= self._again_at:
            self._again_at = None
            self.again()
        if self._looking is None and not self._stopped and (self._trial is not None or self._pulse.is_due(now)):
            self._looking = asyncio.create_task(self._look(now), name="health")

    async def _look(self, now: float) -> None:
        try:
            vitals = await self._vitals()
            if self._pulse.is_due(now):
                self._pulse.take(now, vitals)
            trial = self._trial
            if trial is None:
                return
            worse = trial.look(now, vitals)
            if worse is not None:
                self._trial = None
                await self._roll_back(worse)
            elif trial.is_over(now):
                self._trial = None
                await self._held.passed()
                self.said()
        except StorageError as error:
            _log.error("how the trial of the bundle has ended cannot be kept", why=error.text)
        finally:
            self._looking = None

    async def _begin_trial(self, seconds: float) -> None:
        now, vitals = self._monotonic(), await self._vitals()
        self._trial = Trial(now, seconds, vitals, Vitals())

    async def _roll_back(self, worse: str) -> None:
        gone = self._held.active
        if gone is not None:
            _log.error("going back to the bundle before", bundle=gone.number, why=worse)
            await self._held.roll_back(worse)

    # How it stands

    def _stepped(self, held: Held) -> None:
        self.said()

    def status(self) -> dict[str, Any]:
        """How this node stands, as central nodes are told (`control.bundle_standing.BundleNode`)."""
        active, last = self._held.active, self._held.last
        self._said_ms = max(int(self._control.now * 1000), self._said_ms + 1)
        state, reason, tried, attempt = "", "", "", 0
        if last is not None:
            state, reason, tried, attempt = str(last.state), last.reason, last.id, last.attempt
            if active is not None and active.id == last.id and active.trial:
                reason = ON_TRIAL
        if self._refused is not None and self._refused[0] >= tried:
            tried, attempt, reason = self._refused
            state = str(HeldState.REJECTED)
        return {
            "labels": dict(self.facts.labels),
            "active": "" if active is None else active.id,
            "tried": tried,
            "attempt": attempt,
            "state": state,
            "reason": reason[:MAX_REASON],
            "said": self._said_ms,
            "again": self._refused is not None or not self._held.is_whole(self.facts),
        }


def _key_of(parcel: Parcel) -> str:
    """Empty where it does not even say which one it is."""
    try:
        return parse(parcel.text).key
    except ValueError:
        return ""
