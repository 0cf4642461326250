"""Leases: how many requests one side lets the other send, and for how long (RSocket 1.0, "Lease Semantics"; P36).

`GrantedLease` is the node as responder: what it lets a requester send. `HeldLease` is the node as requester: what a
responder lets it send. Both count requests of every kind, a fragmented one once. Times are seconds of the caller's
monotonic clock; a lease ends at its time, not after it. Leases do not survive a resume: `restart` both.

Must not know: what a limit or an overload is, sockets, clocks, which connection asked for leases. Without the L flag in
SETUP there is no object of either kind, and a LEASE that comes is ignored (fault 45).
"""

from __future__ import annotations

from gateway.wire.frames import Lease

#: Seconds that a granted lease lasts. Long, so that an idle device is left alone; activity renews it by its count.
TTL_S = 30.0
#: What is left of a lease, in time or in requests, when the next one is sent.
FRACTION = 0.25
#: Seconds between two leases that are sent because requests ran out.
GAP_S = 0.25

_MAX_U31 = 0x7FFFFFFF


class GrantedLease:
    """What the node lets a requester send.

    The newest lease replaces the older one (P36). But the requester counts from when a lease reaches it, so requests
    that it sent under the older one are still on their way when the newer one is sent: as many as the older one left
    are taken for a short while without being charged to the newer one. Else a requester that keeps to its lease would
    be refused for the time on the wire. After a stop nothing is taken: a refused request was not processed.
    """

    __slots__ = (
        "_absorbed",
        "_again_at",
        "_ends_at",
        "_fraction",
        "_gap_s",
        "_given",
        "_left",
        "_low",
        "_older_ends_at",
        "_older_left",
        "_renew_at",
        "_ttl_s",
    )

    def __init__(self, ttl_s: float = TTL_S, fraction: float = FRACTION, gap_s: float = GAP_S) -> None:
        """`fraction`: what is left, 0 to below 0.5, when a lease is renewed. Requests may be on the wire for that part
        of `ttl_s`. Raises ValueError."""
        # From one half on, what an idle requester left of its older leases would add up.
        if not 0 <= fraction < 0.5 or not 0 < ttl_s * 1000 <= _MAX_U31:
            raise ValueError(f"no lease of {ttl_s} s renewed at {fraction}")
        self._ttl_s = ttl_s
        self._fraction = fraction
        self._gap_s = gap_s
        self._given = False
        self._left = 0
        self._ends_at = 0.0
        self._older_left = 0
        self._older_ends_at = 0.0
        self._absorbed = 0
        self._low = 0
        self._renew_at = 0.0
        self._again_at = 0.0

    def due(self, now: float) -> bool:
        """Whether `renew` would send a lease, given an allowance. Cheap, for after each request."""
        if not self._given or now >= self._renew_at:
            return True
        # What was charged to an older lease may have been sent under this one: the requester has that much less left.
        return self._left - self._absorbed <= self._low and now >= self._again_at

    def renew(self, now: float, allowance: int) -> Lease | None:
        """The lease to send now, if any. `allowance`: the requests that may come until it ends.

        None of them stops the requester at once, if it can have any left (drain, overload); otherwise a lease goes out
        when it is due. The first call, and the first one after `restart`, always returns a lease: a SETUP that asks for
        leases must get one (P06).
        """
        if allowance <= 0:
            return self._stop(now)
        if not self.due(now):
            return None
        self._set_aside(now)
        self._given = True
        self._absorbed = 0
        self._left = min(allowance, _MAX_U31)
        self._low = int(self._left * self._fraction)
        self._ends_at = now + self._ttl_s
        self._renew_at = now + self._ttl_s * (1 - self._fraction)
        self._again_at = now + self._gap_s
        return Lease(ttl_ms=max(1, round(self._ttl_s * 1000)), requests=self._left)

    def shrink(self, now: float, allowance: int) -> Lease | None:
        """The lease to send at once because no more than `allowance` requests may come now; None where no more can."""
        if not self._given or self._left <= allowance or now >= self._ends_at:
            return None
        self._renew_at = now
        return self.renew(now, allowance)

    def spend(self, now: float) -> bool:
        """Take a request. False when no lease allows it: the answer is ERROR[REJECTED] (P36, fault 45)."""
        if self._older_left:
            if now < self._older_ends_at:
                self._older_left -= 1
                self._absorbed += 1
                return True
            self._older_left = 0
        if self._left and now < self._ends_at:
            self._left -= 1
            return True
        return False

    def restart(self, now: float) -> None:
        """The session goes on over another link: the next `renew` sends a lease (P36).

        The requester sends again what it had sent under its lease, so what was left of that is still taken for a while.
        """
        self._set_aside(now)
        self._given = False
        self._left = 0

    def _set_aside(self, now: float) -> None:
        grace = self._ttl_s * self._fraction
        older = self._older_left if now < self._older_ends_at else 0
        self._older_left = older + (self._left if now < self._ends_at + grace else 0)
        self._older_ends_at = now + grace

    def _stop(self, now: float) -> Lease | None:
        running = self._left > 0 and now < self._ends_at
        if self._given and not running:
            return None
        self._given = True
        self._left = 0
        self._older_left = 0
        self._renew_at = self._again_at = now + self._gap_s
        return Lease(ttl_ms=0, requests=0)


class HeldLease:
    """What a responder lets the node send. Until its first LEASE comes, and after the newest one, nothing (P36)."""

    __slots__ = ("_ends_at", "_left")

    def __init__(self) -> None:
        self._left = 0
        self._ends_at = 0.0

    def receive(self, lease: Lease, now: float) -> None:
        """Take a LEASE; it replaces the one before, and 0 in either field stops requests."""
        self._left = lease.requests
        self._ends_at = now + lease.ttl_ms / 1000

    def available(self, now: float) -> int:
        """How many requests may be sent now; a weight for the balancer."""
        return self._left if now < self._ends_at else 0

    def spend(self, now: float) -> bool:
        """Send a request, if the lease has one left."""
        if not self._left or now >= self._ends_at:
            return False
        self._left -= 1
        return True

    def restart(self) -> None:
        """The session goes on over another link: the responder's next LEASE is waited for."""
        self._left = 0
