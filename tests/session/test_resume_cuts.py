"""A client and a node over links that break: nothing is lost, doubled or reordered (P50, P51, P54).

The model is both sides with a real `Retained` and `Received` each, links that carry frames in order, and everything
that was ever sent as the reference. A link breaks for the client first; the node goes on sending into it and taking
what is still under way on it until the client comes back, or it notices. Links also break in the middle of a resume,
and the RESUME of such a link may reach the node after that of a newer one.
"""

from __future__ import annotations

from collections import deque
from random import Random

from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.errors import ConnectionFailed, RejectedResume
from gateway.session import keepalive
from gateway.session.resume import Received, Retained, judge
from gateway.wire.frames import (
    Cancel,
    Error,
    FrameType,
    Payload,
    RequestN,
    RequestResponse,
    Resume,
    ResumeOk,
    decode,
    encode,
    peek_stream_id,
    peek_type,
)
from tests.examples import examples

Step = tuple[str, int]

STEPS = ("client_sends", "node_sends", "up", "down", "client_asks", "node_asks", "cut", "notice", "resume", "late")


class Link:
    """Frames under way, in order. `up` is to the node, which has `seen` it once its first frame came."""

    def __init__(self) -> None:
        self.seen = False
        self.up: deque[bytes] = deque()
        self.down: deque[bytes] = deque()


class Side:
    def __init__(self, limit: int) -> None:
        self.received = Received()
        self.retained = Retained(limit)
        self.sent: list[bytes] = []
        self.got: list[bytes] = []
        self.link: Link | None = None

    def take(self, frame: bytes) -> bytes:
        """Take a frame; returns the answer, if it has one."""
        kind = peek_type(frame)
        self.received.take(kind, peek_stream_id(frame), len(frame))
        if kind != FrameType.KEEPALIVE:
            self.got.append(frame)
            return b""
        self.retained.trim(keepalive.claimed(frame, 0, len(frame)))
        return keepalive.answer(frame, 0, len(frame), self.received.position)


class Pair:
    """The whole model. `rejected` once a RESUME was refused: the session is over."""

    def __init__(self, limit: int = 1 << 20) -> None:
        self.client = Side(limit)
        self.node = Side(limit)
        self.client.link = self.node.link = Link()
        self.client.link.seen = True
        self.resuming = False
        self.abandoned: list[Link] = []
        self.rejected = False
        self.resumed = 0
        self.number = 0

    def run(self, steps: list[Step]) -> None:
        for name, argument in steps:
            if self.rejected:
                return
            getattr(self, name)(argument)

    # What may happen

    def client_sends(self, size: int) -> None:
        frame = self.frame(size)
        self.client.sent.append(frame)
        self.client.retained.append(frame)
        # Until RESUME_OK a client sends nothing else: what it wants to send waits among what is kept.
        if self.client.link is not None and not self.resuming:
            self.client.link.up.append(frame)

    def node_sends(self, size: int) -> None:
        frame = self.frame(size)
        self.node.sent.append(frame)
        self.node.retained.append(frame)
        if self.node.link is not None:
            self.node.link.down.append(frame)

    def client_asks(self, _: int) -> None:
        if self.client.link is not None and not self.resuming:
            self.client.link.up.append(keepalive.question(self.client.received.position))

    def node_asks(self, _: int) -> None:
        if self.node.link is not None:
            self.node.link.down.append(keepalive.question(self.node.received.position))

    def up(self, count: int) -> None:
        """Frames reach the node, on the newest link that it knows of, or RESUME on one that it does not."""
        for _ in range(count):
            newest = self.client.link
            if newest is not None and not newest.seen and not self.node_resumes(newest):
                self.rejected = True
                return
            link = self.node.link
            if link is None or not link.up:
                return
            answer = self.node.take(link.up.popleft())
            if answer:
                link.down.append(answer)

    def down(self, count: int) -> None:
        """Frames reach the client."""
        link = self.client.link
        for _ in range(count):
            if link is None or not link.down or self.rejected:
                return
            frame = link.down.popleft()
            if self.resuming:
                self.client_resumes(link, frame)
                continue
            answer = self.client.take(frame)
            if answer:
                link.up.append(answer)

    def cut(self, _: int) -> None:
        """The client's end of the link is gone; what was under way to it is lost."""
        link = self.client.link
        if link is not None and not link.seen:
            self.abandoned.append(link)
        self.client.link = None
        self.resuming = False

    def notice(self, arrived: int) -> None:
        """The node learns that its link is gone; all but some frames of what was under way to it are lost."""
        link = self.node.link
        if link is None or link is self.client.link:
            return
        while arrived and link.up:
            arrived -= 1
            self.node.take(link.up.popleft())
        self.node.link = None

    def resume(self, _: int) -> None:
        """The client dials again, whether or not the node has noticed."""
        if self.client.link is not None:
            return
        link = Link()
        client = self.client
        link.up.append(encode(Resume(b"t" * 16, client.received.position, client.retained.first_available)))
        self.client.link = link
        self.resuming = True

    def late(self, index: int) -> None:
        """A RESUME on a link that the client has given up reaches the node; whatever comes of it goes nowhere."""
        if not self.abandoned:
            return
        link = self.abandoned.pop(index % len(self.abandoned))
        live = self.node.link is not None and self.node.link is self.client.link
        if self.node_resumes(link) and live:
            # One link a session: the node has closed the one that worked.
            self.cut(0)

    # The two halves of a resume, as `gateway.session.resume` says

    def node_resumes(self, link: Link) -> bool:
        link.seen = True
        frame = decode(link.up.popleft())
        assert isinstance(frame, Resume)
        node = self.node
        try:
            ok = judge(frame, node.received, node.retained)
        except RejectedResume:
            return False
        node.link = link
        node.retained.trim(frame.server_position)
        link.down.append(encode(ok))
        link.down.extend(node.retained.replay_from(frame.server_position))
        self.resumed += 1
        return True

    def client_resumes(self, link: Link, frame: bytes) -> None:
        ok = decode(frame)
        assert isinstance(ok, ResumeOk)
        retained = self.client.retained
        try:
            retained.trim(ok.position)
            link.up.extend(retained.replay_from(ok.position))
        except ConnectionFailed:
            self.rejected = True
            return
        self.resuming = False

    # What must hold

    def frame(self, size: int) -> bytes:
        """One that no other is like."""
        self.number += 1
        mark = self.number.to_bytes(4, "big")
        stream_id = self.number % 5 + 1
        match size % 5:
            case 0:
                return encode(RequestN(stream_id, self.number))
            case 1:
                return encode(Error(stream_id, 0x301 + self.number))
            case 2:
                return encode(RequestResponse(stream_id, mark, bytes(size)))
            case 3:
                # The smallest frame there is has room for no mark but its stream id.
                return encode(Cancel(self.number))
            case _:
                return encode(Payload(stream_id, None, mark + bytes(size), next=True))

    def heal(self) -> None:
        """Come back once more and let everything arrive."""
        self.cut(0)
        self.notice(0)
        self.resume(0)
        for _ in range(4):
            self.up(1 << 20)
            self.down(1 << 20)

    def check_so_far(self) -> None:
        """Each side has what the other sent, up to some frame."""
        assert self.node.got == self.client.sent[: len(self.node.got)]
        assert self.client.got == self.node.sent[: len(self.client.got)]

    def check_everything(self) -> None:
        assert not self.rejected
        assert self.node.got == self.client.sent
        assert self.client.got == self.node.sent
        for one, other in ((self.client, self.node), (self.node, self.client)):
            assert one.received.position == other.retained.position == sum(map(len, other.sent))


def schedule(random: Random) -> list[Step]:
    """Mostly traffic, with cuts at every moment of it and of the resumes."""
    weights = [random.randint(1, 9) for _ in STEPS]
    names = random.choices(STEPS, weights, k=random.randint(5, 80))
    return [(name, random.randint(0, 40)) for name in names]


steps = st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 40)), max_size=80)


class TestCuts:
    def test_thousands_of_random_schedules(self) -> None:
        """P50, P51, P54: both sides keep sending, links lose what is on them, in both directions."""
        resumed = 0
        for seed in range(4000):
            pair = Pair()
            pair.run(schedule(Random(seed)))
            pair.check_so_far()
            pair.heal()
            pair.check_everything()
            resumed += pair.resumed
        # The schedules are worth something only if they resume often; each ends with one resume at least.
        assert resumed > 6000

    @given(steps)
    @settings(max_examples=examples(60), deadline=None)
    @example([("node_sends", 4), ("cut", 0), ("resume", 0), ("up", 1), ("cut", 0), ("resume", 0)])
    @example([("client_sends", 4), ("up", 1), ("cut", 0), ("client_sends", 2), ("resume", 0), ("up", 1), ("down", 1)])
    @example([("client_sends", 4), ("client_sends", 3), ("cut", 0), ("notice", 1), ("node_sends", 0)])
    def test_any_schedule(self, steps: list[Step]) -> None:
        """P50, P51, P54: the same, with the smallest schedule that fails."""
        pair = Pair()
        pair.run(steps)
        pair.check_so_far()
        pair.heal()
        pair.check_everything()

    def test_an_overflow_loses_the_session_but_never_a_frame_in_between(self) -> None:
        """P54, fault 48: with a small limit a resume may be refused; until then every frame came once, in order."""
        outcomes = {True: 0, False: 0}
        for seed in range(3000):
            random = Random(seed)
            pair = Pair(limit=80)
            pair.run(schedule(random))
            pair.check_so_far()
            if not pair.rejected:
                pair.heal()
            pair.check_so_far()
            overflowed = pair.node.retained.overflowed or pair.client.retained.overflowed
            if not pair.rejected:
                pair.check_everything()
            assert overflowed or not pair.rejected
            outcomes[pair.rejected] += 1
        assert min(outcomes.values()) > 300
