"""One connection to a broker, from CONNECT to its end. paho speaks everything but messages.

paho runs without a thread: what it writes goes into the link, packets that are not messages are handed to it one by one
(docs/adr/0011). Its socket is a `_Pipe`, because the loop connects, does TLS and WebSocket, and neither blocks nor
waits.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Self

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties as PahoProperties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from gateway.bridges.mqtt import packets
from gateway.bridges.mqtt.link import Link, WebSocketLink
from gateway.bridges.mqtt.message import Message
from gateway.bridges.mqtt.packets import Acknowledged, Arriving
from gateway.documents.broker import Endpoint
from gateway.errors import BridgeError
from gateway.policy.mqtt_filters import SHARE

#: How long a broker may take to answer SUBSCRIBE or UNSUBSCRIBE, in seconds.
ANSWER_S: Final = 30.0
#: Of filters, in one SUBSCRIBE.
FILTERS_AT_ONCE: Final = 64
_ACKNOWLEDGEMENTS: Final = frozenset({packets.PUBACK, packets.PUBREC, packets.PUBREL, packets.PUBCOMP})
_MAX_ID: Final = 0xFFFF
#: So many keepalive intervals may nothing come, though something is asked for in each half of one.
PATIENCE: Final = 1.5
_PINGREQ: Final = b"\xc0\0"


@dataclass(frozen=True, slots=True)
class Dial:
    """How to connect. Seconds and bytes. `expires_at`: when the password runs out, in Unix seconds, where it says so.
    `session_expiry_s` 0: the session ends with the connection."""

    client_id: str
    version: int = 5
    clean_start: bool = False
    session_expiry_s: int = 0
    keepalive_s: int = 60
    receive_maximum: int = 64
    max_packet: int = 1024 * 1024
    connect_timeout_s: float = 10.0
    username: str | None = None
    password: str | None = None
    expires_at: float | None = None
    tls: ssl.SSLContext | None = None
    server_name: str | None = None
    will: Message | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """What the broker's CONNACK allows. `max_packet` 0: no limit that it told."""

    receive_maximum: int = _MAX_ID
    maximum_qos: int = 2
    retain: bool = True
    max_packet: int = 0
    wildcards: bool = True
    identifiers: bool = False
    shared: bool = True


class Filter(NamedTuple):
    """One subscription. `retained`: 0 sends what is retained, 1 only to a new subscription, 2 never."""

    topic: str
    qos: int
    number: int = 0
    no_local: bool = True
    retained: int = 1


class PacketIds:
    """Identifiers of what this side sends; `in_use` says which may not be given out."""

    def __init__(self, in_use: Callable[[int], bool] = lambda number: False) -> None:
        self._in_use = in_use
        self._last = 0

    def next(self) -> int:
        """Raises BridgeError when all of them are in use."""
        for _ in range(_MAX_ID):
            self._last = self._last % _MAX_ID + 1
            if not self._in_use(self._last):
                return self._last
        raise BridgeError("every packet identifier is in use", reason="mqtt_packet_ids")


class _Pipe:
    """What paho takes for its socket."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._came = b""

    def fill(self, packet: bytes) -> None:
        self._came += packet

    def recv(self, size: int) -> bytes:
        if not self._came:
            raise BlockingIOError
        data, self._came = self._came[:size], self._came[size:]
        return data

    def send(self, data: bytes | bytearray) -> int:
        self._link.write(bytes(data))
        return len(data)

    def close(self) -> None:
        self._link.close()

    def fileno(self) -> int:
        return -1

    def setblocking(self, flag: bool) -> None: ...


class _Paho(paho.Client):
    """paho's client on a connection that stands, with packet identifiers that messages do not use."""

    def __init__(self, pipe: _Pipe, ids: PacketIds, dial: Dial) -> None:
        five = dial.version == packets.VERSION_5
        super().__init__(
            CallbackAPIVersion.VERSION2,
            client_id=dial.client_id,
            clean_session=None if five else dial.clean_start,
            protocol=paho.MQTTv5 if five else paho.MQTTv311,
            reconnect_on_failure=False,
        )
        self._pipe = pipe
        self._ids = ids

    def _create_socket(self) -> Any:
        return self._pipe

    def _mid_generate(self) -> int:
        return self._ids.next()


class Session:
    """`limits`, `present`: what CONNACK said; `ended` is done when the connection is over, with why."""

    def __init__(
        self,
        dial: Dial,
        where: Endpoint,
        ids: PacketIds,
        on_message: Callable[[Arriving], None],
        on_acknowledgement: Callable[[int, Acknowledged], None],
        on_open: Callable[[Session], None] = lambda session: None,
    ) -> None:
        loop = self._loop = asyncio.get_running_loop()
        self.dial = dial
        self.where = where
        self.limits = Limits()
        self.present = False
        self.open = False
        self.ended: asyncio.Future[BridgeError] = loop.create_future()
        self._on_message = on_message
        self._on_acknowledgement = on_acknowledgement
        self._on_open = on_open
        self._decoder = packets.PublishDecoder(dial.version)
        self._answers: dict[int, asyncio.Future[list[int]]] = {}
        self._connected: asyncio.Future[None] = loop.create_future()
        self._error: BridgeError | None = None
        self._leaving = False
        self._heard = 0
        self._heard_at = self._asked_at = loop.time()
        if where.path is None:
            self.link = Link(loop, self._take, self._lost, dial.max_packet)
        else:
            url = str(where)
            self.link = WebSocketLink(loop, self._take, self._lost, dial.max_packet, url)
        self._pipe = _Pipe(self.link)
        self._paho = _Paho(self._pipe, ids, dial)
        self._paho.on_connect = self._on_connect
        self._paho.on_disconnect = self._on_disconnect
        self._paho.on_subscribe = self._on_suback
        self._paho.on_unsubscribe = self._on_unsuback

    @classmethod
    async def connect(
        cls,
        dial: Dial,
        where: Endpoint,
        ids: PacketIds,
        on_message: Callable[[Arriving], None],
        on_acknowledgement: Callable[[int, Acknowledged], None],
        on_open: Callable[[Session], None] = lambda session: None,
    ) -> Self:
        """A session that the broker has accepted. `on_open` is told of it before the first message comes, which may be
        before this returns.

        Raises:
            BridgeError: nobody is there, or not whom `tls` trusts, or it refuses this client, or never answers.
        """
        session = cls(dial, where, ids, on_message, on_acknowledgement, on_open)
        try:
            async with asyncio.timeout(dial.connect_timeout_s):
                await session._connect()
        except TimeoutError:
            said = "accepts connections and does not answer" if session.link.ready.done() else "does not answer"
            error = BridgeError(f"{where} {said} within {dial.connect_timeout_s:g} s", reason="mqtt_silent")
            session.link.abort(error)
            raise error from None
        except BaseException:
            session.link.abort()
            raise
        return session

    async def _connect(self) -> None:
        dial, where = self.dial, self.where
        tls = dial.tls if where.tls else None
        try:
            await self._loop.create_connection(
                lambda: self.link,
                where.host,
                where.port,
                ssl=tls,
                server_hostname=(dial.server_name or where.host) if tls is not None else None,
            )
            await asyncio.shield(self.link.ready)
        except ssl.SSLCertVerificationError as error:
            text = f"{where}: its certificate is not accepted: {error.verify_message}"
            raise BridgeError(text, reason="mqtt_certificate") from error
        except ssl.SSLError as error:
            raise BridgeError(f"{where}: TLS: {error.reason or error}", reason="mqtt_tls") from error
        except OSError as error:
            raise BridgeError(f"{where}: {error.strerror or error}", reason="mqtt_unreachable") from error
        self._say_connect()
        await self._connected

    def _say_connect(self) -> None:
        dial, client = self.dial, self._paho
        if dial.username is not None:
            client.username_pw_set(dial.username, dial.password)
        will = dial.will
        if will is not None:
            client.will_set(will.topic, will.payload, will.qos, will.retain)
        if dial.version != packets.VERSION_5:
            client.connect_async(self.where.host, self.where.port, dial.keepalive_s)
        else:
            properties = _properties(PacketTypes.CONNECT)
            properties.ReceiveMaximum = dial.receive_maximum
            properties.MaximumPacketSize = dial.max_packet
            if dial.session_expiry_s:
                properties.SessionExpiryInterval = min(dial.session_expiry_s, 0xFFFFFFFF)
            client.connect_async(
                self.where.host,
                self.where.port,
                dial.keepalive_s,
                clean_start=dial.clean_start,
                properties=properties,
            )
        client.reconnect()

    # What comes

    def _take(self, head: int, data: bytes, at: int, end: int) -> None:
        kind = head >> 4
        try:
            if kind == packets.PUBLISH:
                self._on_message(self._decoder.decode(head, data, at, end))
            elif kind in _ACKNOWLEDGEMENTS:
                self._on_acknowledgement(kind, packets.decode_acknowledgement(data, at, end))
            else:
                self._pipe.fill(bytes((head,)) + packets.varint(end - at) + data[at:end])
                self._paho.loop_read()
        except BridgeError as error:
            self.link.abort(error)
        except (ValueError, IndexError, KeyError) as error:
            # Of paho, for a packet that is none.
            self.link.abort(BridgeError(f"a packet that is none: {error}", reason="mqtt_malformed"))

    def _on_connect(self, client: object, data: object, flags: paho.ConnectFlags, code: Any, given: Any) -> None:
        if code.is_failure:
            reason = "mqtt_not_authorized" if code.value in _NOT_AUTHORIZED else "mqtt_refused"
            self._fail(BridgeError(f"{self.where} refuses {self.dial.client_id}: {code}", reason=reason))
            return
        five = self.dial.version == packets.VERSION_5
        self.present = flags.session_present
        self.limits = Limits(
            receive_maximum=getattr(given, "ReceiveMaximum", _MAX_ID),
            maximum_qos=getattr(given, "MaximumQoS", 2),
            retain=bool(getattr(given, "RetainAvailable", 1)),
            max_packet=getattr(given, "MaximumPacketSize", 0),
            wildcards=bool(getattr(given, "WildcardSubscriptionAvailable", 1)),
            identifiers=five and bool(getattr(given, "SubscriptionIdentifierAvailable", 1)),
            shared=bool(getattr(given, "SharedSubscriptionAvailable", 1)),
        )
        self.open = True
        self._on_open(self)
        if not self._connected.done():
            self._connected.set_result(None)

    def _on_disconnect(self, client: object, data: object, flags: paho.DisconnectFlags, code: Any, given: Any) -> None:
        if self._leaving:
            return  # it is our own DISCONNECT that has been written
        if flags.is_disconnect_packet_from_server:
            reason = _REASONS.get(code.value, "mqtt_disconnected")
            why = getattr(given, "ReasonString", "") or getattr(given, "ServerReference", "")
            text = f"{self.where} has disconnected this client: {code}{f' ({why})' if why else ''}"
            self._fail(BridgeError(text, reason=reason))
        else:
            self._fail(BridgeError(f"{self.where}: {code}", reason="mqtt_disconnected"))

    def _fail(self, error: BridgeError) -> None:
        self._error = self._error or error
        self.link.abort(error)

    def _lost(self, error: Exception | None) -> None:
        self.open = False
        why = self._error
        if why is None and isinstance(error, BridgeError):
            why = error
        if why is None:
            said = f": {error}" if error is not None and str(error) else ""
            why = BridgeError(f"{self.where} has closed the connection{said}", reason="mqtt_lost")
        waiting: list[asyncio.Future[Any]] = [self._connected, *self._answers.values()]
        for future in waiting:
            if not future.done():
                future.set_exception(why)
                future.exception()
        self._answers.clear()
        if not self.ended.done():
            self.ended.set_result(why)

    # What is sent

    def send(self, packet: bytes) -> None:
        self.link.write(packet)

    async def subscribe(self, filters: Sequence[Filter]) -> list[int]:
        """The broker's reason code for each, below 0x80 where it agrees. Raises BridgeError."""
        codes: list[int] = []
        for at in range(0, len(filters), FILTERS_AT_ONCE):
            some = filters[at : at + FILTERS_AT_ONCE]
            if self.dial.version == packets.VERSION_5:
                for number in sorted({each.number for each in some}):
                    same = [each for each in some if each.number == number]
                    properties = None
                    if number and self.limits.identifiers:
                        properties = _properties(PacketTypes.SUBSCRIBE)
                        properties.SubscriptionIdentifier = number
                    asked: Any = [(each.topic, _options(each)) for each in same]
                    codes += await self._answer(self._paho.subscribe(asked, properties=properties))
            else:
                asked = [(each.topic, each.qos) for each in some]
                codes += await self._answer(self._paho.subscribe(asked))
        return codes

    async def unsubscribe(self, filters: Iterable[str]) -> None:
        """Raises BridgeError."""
        topics = list(filters)
        if topics:
            await self._answer(self._paho.unsubscribe(topics))

    async def _answer(self, asked: tuple[MQTTErrorCode, int | None]) -> list[int]:
        _, number = asked
        if number is None or not self.open:
            raise BridgeError(f"{self.where}: the connection is over", reason="mqtt_lost")
        answer: asyncio.Future[list[int]] = self._loop.create_future()
        self._answers[number] = answer
        try:
            async with asyncio.timeout(ANSWER_S):
                return await answer
        except TimeoutError:
            error = BridgeError(f"{self.where} does not answer within {ANSWER_S:g} s", reason="mqtt_silent")
            self._fail(error)
            raise error from None
        finally:
            self._answers.pop(number, None)

    def _on_suback(self, client: object, data: object, number: int, codes: list[ReasonCode], given: object) -> None:
        self._answered(number, [code.value for code in codes])

    def _on_unsuback(self, client: object, data: object, number: int, codes: Any, given: object) -> None:
        self._answered(number, [])

    def _answered(self, number: int, codes: list[int]) -> None:
        answer = self._answers.get(number)
        if answer is not None and not answer.done():
            answer.set_result(codes)

    def tick(self, now: float) -> None:
        """Some times in each keepalive interval: PINGREQ when it is time, and the end when nothing comes any more."""
        if not self.open:
            return
        if self.link.paused or self.link.bytes_in != self._heard:
            # Whoever is not read from cannot be heard.
            self._heard, self._heard_at = self.link.bytes_in, now
        keepalive_s = self._paho.keepalive
        if not keepalive_s:
            return
        if now - self._heard_at > keepalive_s * PATIENCE:
            self._fail(BridgeError(f"{self.where} answers no PINGREQ", reason="mqtt_keepalive"))
        elif now - self._asked_at >= keepalive_s / 2:
            self._asked_at = now
            self.link.write(_PINGREQ)

    def give_up(self, why: BridgeError) -> None:
        """Say goodbye, and end for this reason."""
        self._error = self._error or why
        self.disconnect()

    def disconnect(self, *, with_will: bool = False) -> None:
        """Say goodbye; the broker publishes no will, unless it is asked to (MQTT 5.0)."""
        if self.open:
            self.open = False
            self._leaving = True
            self._error = self._error or BridgeError("this side has disconnected", reason="mqtt_stopped")
            five = self.dial.version == packets.VERSION_5
            if with_will and five:
                self._paho.disconnect(ReasonCode(PacketTypes.DISCONNECT, identifier=4))
            else:
                self._paho.disconnect()
            self.link.close()


def _properties(kind: int) -> Any:
    make: Any = PahoProperties
    return make(kind)


def _options(each: Filter) -> SubscribeOptions:
    # No Local is an error on a shared subscription (MQTT 5.0, 3.8.3.1).
    shared = each.topic.startswith(SHARE)
    return SubscribeOptions(
        qos=each.qos, noLocal=each.no_local and not shared, retainAsPublished=True, retainHandling=each.retained
    )


#: CONNACK: bad user name or password, not authorized; 4 and 5 are the same in 3.1.1.
_NOT_AUTHORIZED: Final = frozenset({4, 5, 0x86, 0x87, 0x8C})
#: DISCONNECT, by what becomes of it.
_REASONS: Final = {
    0x82: "mqtt_malformed",
    0x87: "mqtt_not_authorized",
    0x89: "mqtt_busy",
    0x8B: "mqtt_shutting_down",
    0x8D: "mqtt_keepalive",
    0x8E: "mqtt_taken_over",
    0x93: "mqtt_receive_maximum",
    0x95: "mqtt_packet_too_large",
    0x97: "mqtt_quota",
    0x9C: "mqtt_moved",
    0x9D: "mqtt_moved",
}
