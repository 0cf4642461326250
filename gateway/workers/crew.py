"""The workers of a node, as its first process sees them: it starts them, tells them what holds, and starts them again.

A worker gets everything over its channel: settings, listening sockets, what the data plane goes by, links. Nothing of
it is in its arguments or its environment. What is durable stays with the first process: a worker tells it whom it saw
and asks it for what takes the disk. A worker that dies, or that says nothing for long, is started again, later each
time; its clients' routes go with its links.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from gateway.admin.family import Reading, Sources
from gateway.configuring import Configurations, Said
from gateway.control.plane import ControlPlane
from gateway.control.registry import Publication
from gateway.enrolling import Claim, redeemed
from gateway.errors import WorkerError
from gateway.federation.federation import Federation
from gateway.forwarding import numbers
from gateway.forwarding.register import Closed
from gateway.observe import figures
from gateway.observe.loggers import structlog
from gateway.observe.process import ProcessUsage
from gateway.renewal import Renewals, Wanted
from gateway.transport.dialer import Dialer
from gateway.updating.desk import UpdateDesk
from gateway.workers import updates
from gateway.workers.channel import Channel, Message, pair
from gateway.workers.household import Household
from gateway.workers.telling import Teller

if TYPE_CHECKING:
    from gateway.config import Config
    from gateway.front import Front

#: A worker says something twice a second; after so long without a word it is ended.
SILENT_S: Final = 30.0
#: Pauses before a worker is started again, in seconds: the first, and the longest.
AGAIN_S: Final = (0.2, 10.0)
#: A worker that has been ready for so long has not failed to start.
STEADY_S: Final = 10.0
#: How long the end of a worker that was told to end at once is waited for.
END_S: Final = 5.0
ASK_S: Final = 5.0
ALARM: Final = "worker_died"

_log = structlog.get_logger("gateway.workers")


@dataclass
class Hand:
    """One worker. `ready_at`, `heard_at`: by the loop's clock; `ready_at` is None while it is not ready. `restarts`:
    starts after the first. `connections`: how many it has."""

    index: int
    process: asyncio.subprocess.Process | None = None
    channel: Channel | None = None
    teller: Teller | None = None
    started_at: float = 0.0
    ready_at: float | None = None
    heard_at: float = 0.0
    restarts: int = 0
    failures: int = 0
    connections: int = 0
    been_ready: bool = False
    task: asyncio.Task[None] | None = field(default=None, repr=False)

    @property
    def ready(self) -> bool:
        return self.ready_at is not None


class Crew:
    """`tell(kind, subject, **data)` is told of events."""

    def __init__(
        self,
        front: Front,
        control: ControlPlane,
        renewals: Renewals,
        configurations: Configurations,
        desk: UpdateDesk,
        federation: Federation | None,
        authority: bytes,
        tell: Callable[..., None],
    ) -> None:
        loop = asyncio.get_running_loop()
        self._front = front
        self._control = control
        self._renewals = renewals
        self._configurations = configurations
        self._desk = desk
        self._authority = authority
        self._tell = tell
        self._loop = loop
        self._count = front.config.node.workers
        self.household = Household(
            front.plane,
            front.services,
            Dialer(front.plane, front.handshake),
            front.insiders,
            loop,
            federation,
            node_id=front.plane.node_id,
            index=0,
            count=self._count,
        )
        self.hands = [Hand(index) for index in range(1, self._count)]
        self._starts = 0
        self._stopping = False
        self._looking: asyncio.TimerHandle | None = None
        self._linking: set[asyncio.Task[None]] = set()

    # Life

    async def start(self) -> None:
        """The listeners are open: let there be workers behind them, too."""
        for hand in self.hands:
            hand.task = self._loop.create_task(self._keep(hand), name=f"worker {hand.index}")
        self._look()

    @property
    def running(self) -> bool:
        """Whether there is any process of a worker."""
        return any(hand.process is not None for hand in self.hands)

    @property
    def why_not_ready(self) -> str | None:
        """Why the node is not what it is to be, while it starts; a worker that dies later leaves it ready."""
        waiting = [str(hand.index) for hand in self.hands if not hand.been_ready]
        return f"worker {', '.join(waiting)} is starting" if waiting else None

    def stop(self) -> None:
        """Have every worker drain and end."""
        self._stopping = True
        self.household.drain()
        self.tell("stop")
        for hand in self.hands:
            if hand.process is None and hand.task is not None:
                hand.task.cancel()

    async def close(self) -> None:
        """End what has not ended."""
        self._stopping = True
        if self._looking is not None:
            self._looking.cancel()
        for task in self._linking:
            task.cancel()
        for hand in self.hands:
            _kill(hand)
        for hand in self.hands:
            if hand.task is not None:
                with suppress(TimeoutError):
                    async with asyncio.timeout(END_S):
                        await asyncio.gather(hand.task, return_exceptions=True)
        await self.household.stop()

    async def _keep(self, hand: Hand) -> None:
        while True:
            began = self._loop.time()
            try:
                code = await self._run(hand)
                why = f"signal {-code}" if code < 0 else f"exit status {code}"
            except OSError as error:
                why = str(error)
            finally:
                self._gone(hand)
            if self._stopping:
                return
            if hand.been_ready and self._loop.time() - began > STEADY_S:
                hand.failures = 0
            self._control.raise_alarm(ALARM, f"worker {hand.index} has ended ({why}) and is started again")
            _log.error("a worker has ended", worker=hand.index, why=why)
            self._tell("worker.died", str(hand.index), why=why)
            first, longest = AGAIN_S
            pause = min(longest, first * 2.0**hand.failures)
            hand.failures += 1
            hand.restarts += 1
            await asyncio.sleep(pause)

    async def _run(self, hand: Hand) -> int:
        """Start a worker and wait for its end. Raises OSError."""
        ours, theirs = pair()
        try:
            listening = [(name, listener.another()) for name, listener in self._front.listeners.items()]
            hand.process = await asyncio.create_subprocess_exec(
                sys.executable,
                # Not what happens to lie where the node was started.
                "-P",
                "-m",
                "gateway.workers",
                str(hand.index),
                str(theirs.fileno()),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self._starts += 1
        hand.started_at = self._front.plane.wall()
        hand.heard_at = self._loop.time()
        channel = hand.channel = Channel(
            ours,
            lambda message, descriptors: self._heard(hand, message),
            self._answer,
            lambda: _kill(hand),
        )
        channel.send(
            "hello",
            [each.detach() for _, sockets in listening for each in sockets],
            settings=_settings(self._front.config),
            node_id=self._front.plane.node_id.hex(),
            first_number=numbers.behind(hand.index, self._starts),
            certificate=str(self._front.certificate_path),
            key=str(self._front.certificate_key_path),
            authority=self._authority.decode(),
            listening=[(name, len(sockets)) for name, sockets in listening],
        )
        channel.send(
            "documents", standing=[document.body for document in self._front.governed_by], role=self._front.plane.role
        )
        hand.teller = Teller(channel)
        hand.teller.publish(replace(self._front.published, subjects=None))
        return await hand.process.wait()

    def _gone(self, hand: Hand) -> None:
        if hand.teller is not None:
            hand.teller.stop()
        if hand.channel is not None:
            hand.channel.close()
        hand.process = hand.channel = hand.teller = hand.ready_at = None
        hand.connections = 0
        self._share_out()

    def _look(self) -> None:
        """See who has said nothing for too long, and whether all is well again."""
        self._looking = self._loop.call_later(1.0, self._look)
        now = self._loop.time()
        for hand in self.hands:
            if hand.channel is not None and now - hand.heard_at > SILENT_S:
                _log.error("a worker says nothing and is ended", worker=hand.index)
                _kill(hand)
        if all(hand.ready_at is not None and now - hand.ready_at > STEADY_S for hand in self.hands):
            self._control.calm(ALARM)

    # Telling

    def tell(self, what: str, /, **content: Any) -> None:
        """Tell every worker."""
        for hand in self.hands:
            if hand.channel is not None:
                hand.channel.send(what, **content)

    def publish(self, publication: Publication) -> None:
        for hand in self.hands:
            if hand.teller is not None:
                hand.teller.publish(publication)

    def govern(self) -> None:
        """Other documents stand."""
        self.tell(
            "documents", standing=[document.body for document in self._front.governed_by], role=self._front.plane.role
        )

    def want_flows(self) -> None:
        """Other records of requests are wanted."""
        log = self._front.flow_log
        self.tell("flows", want=log.wanted, capacity=log.capacity)

    def take_settings(self, config: Config) -> None:
        self.tell("settings", settings=_settings(config))

    def _share_out(self) -> None:
        """Let each know how many connections the others have."""
        admission = self._front.admission
        admission.elsewhere = sum(hand.connections for hand in self.hands)
        for hand in self.hands:
            if hand.channel is not None:
                others = admission.connections + admission.elsewhere - hand.connections
                hand.channel.send("elsewhere", connections=others)

    # Asking

    def views(self) -> list[dict[str, Any]]:
        """Each worker, as the admin API shows it."""
        return [
            {
                "index": hand.index,
                "state": "ready" if hand.ready else "starting" if hand.process is not None else "ended",
                "pid": None if hand.process is None else hand.process.pid,
                "started_at": hand.started_at or None,
                "restarts": hand.restarts,
                "connections": hand.connections,
            }
            for hand in self.hands
        ]

    async def readings(self, version: str) -> list[tuple[str, Reading]]:
        """What each worker has counted, by its index."""
        return [
            (
                str(index),
                Reading(
                    figures.heard(said["metrics"]),
                    Sources(partial(int, said["outbox_bytes"]), partial(int, said["routes"])),
                    version,
                    ProcessUsage(*said["process"]),
                ),
            )
            for index, said in await self.ask("figures")
        ]

    async def ask(self, what: str, index: int | None = None, /, **content: Any) -> list[tuple[int, Any]]:
        """What the workers that are ready answer, or one of them; those that do not are left out.

        Raises WorkerError when the one that is asked does not answer or refuses.
        """
        asked = [hand for hand in self.hands if hand.ready and index in (None, hand.index)]
        if index is not None and not asked:
            raise WorkerError(f"worker {index} is not there")
        channels = [(hand.index, hand.channel) for hand in asked if hand.channel is not None]
        answers = await asyncio.gather(
            *(channel.ask(what, ASK_S, **content) for _, channel in channels), return_exceptions=True
        )
        found = []
        for (number, _), answer in zip(channels, answers, strict=True):
            if isinstance(answer, WorkerError) and index is None:
                continue
            if isinstance(answer, BaseException):
                raise answer
            found.append((number, answer))
        return found

    async def _answer(self, message: Message) -> Any:
        match message["is"]:
            case "renew":
                return await self._renewals.answer(Wanted(**message["wanted"]))
            case "enroll":
                return await redeemed(self._control, Claim(**message["claim"]))
            case "configurations":
                return await self._configurations.look(message["devices"])
            case "configured":
                return await self._configurations.keep(Said(**message["said"]))
            case "firmware_report" | "firmware_download":
                return await updates.answered(self._desk, message)
        raise WorkerError(f"nobody answers {message['is']}")

    # Hearing

    def _heard(self, hand: Hand, message: Message) -> None:
        hand.heard_at = self._loop.time()
        match message["is"]:
            case "figures":
                if hand.connections != message["connections"]:
                    hand.connections = message["connections"]
                    self._share_out()
            case "lines":
                for kind, *line in message["lines"]:
                    self._note(hand, kind, line)
            case "flows":
                self._front.flow_log.hear(message["records"])
            case "firmware_received" | "firmware_damaged":
                updates.heard(self._desk, message)
            case "unknown_key":
                self._front.unknown_key()
            case "link":
                self._link(hand, message["to"])
            case "ready":
                self._is_ready(hand)

    def _is_ready(self, hand: Hand) -> None:
        hand.ready_at = self._loop.time()
        hand.been_ready = True
        assert hand.process is not None
        _log.info("worker ready", worker=hand.index, pid=hand.process.pid)
        self._tell("worker.ready", str(hand.index))
        for other in self.hands:
            if other is not hand and other.ready:
                self._link(hand, other.index)
        self._share_out()

    def _note(self, hand: Hand, kind: str, line: list[Any]) -> None:
        if kind == "seen":
            self._control.seen(*line)
        elif kind == "opened":
            number, subject, peer, principal_kind = line
            what = {"connection": str(number), "peer": peer, "principal_kind": principal_kind, "worker": hand.index}
            self._tell("connection.opened", subject, **what)
        else:
            closed = Closed(*line)
            self._front.plane.register.closed.append(closed)
            self._tell(
                "connection.closed",
                closed.subject,
                connection=str(closed.number),
                peer=closed.peer,
                principal_kind=closed.principal_kind,
                reason=closed.reason,
                duration_s=round(closed.duration_s, 3),
                worker=hand.index,
            )

    # Links

    def _link(self, hand: Hand, to: int) -> None:
        """Let a worker dial another process."""
        if self._stopping or hand.channel is None:
            return
        secret = secrets.token_urlsafe(32)
        dialling, expecting = pair()
        other = next((each for each in self.hands if each.index == to), None)
        if to == 0:
            task = self._loop.create_task(self.household.expect(expecting, hand.index, secret), name="worker link")
            self._linking.add(task)
            task.add_done_callback(self._linking.discard)
        elif other is not None and other.ready and other.channel is not None:
            other.channel.send("expect", [expecting.detach()], index=hand.index, secret=secret)
        else:
            # It asks for all of its links when it is ready.
            dialling.close()
            expecting.close()
            return
        hand.channel.send("dial", [dialling.detach()], index=to, secret=secret)


def _settings(config: Config) -> Any:
    return json.loads(config.model_dump_json())


def _kill(hand: Hand) -> None:
    if hand.process is not None and hand.process.returncode is None:
        with suppress(ProcessLookupError):
            hand.process.kill()
