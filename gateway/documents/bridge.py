"""`kind: Bridge`: an MQTT broker beside this node, which topics are which routes, and who may use which."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from gateway.documents.broker import Broker
from gateway.documents.model import Body, Part
from gateway.documents.topic_rules import (
    MAX_FILTERS,
    Call,
    Direction,
    Filters,
    Prefix,
    Rpc,
    TemplateText,
    TopicRule,
    plain_topic,
)
from gateway.documents.units import Duration
from gateway.documents.words import Names, told
from gateway.routing.tags import SUB
from gateway.topics.patterns import Template
from gateway.topics.rules import Rules

#: Of one bridge. The proof that nothing goes round looks at them in pairs.
MAX_RULES = 256
#: The name of a bridge's own service begins with it.
PREFIX = "mqtt."


class Loop(Part):
    """`maxHops`: how many bridges a message may have passed. `cache`: drop what comes back within `window`, where a
    broker has no user properties to tell by; not said: for rules that go both ways under version 4."""

    max_hops: Annotated[int, Field(ge=1, le=64, strict=True)] = 1
    cache: bool | None = None
    window: Duration = 10.0
    entries: Annotated[int, Field(ge=1, le=1_048_576, strict=True)] = 65_536


class Backoff(Part):
    """Between two tries to connect: from 0 to `base`, doubled each time up to `cap`; a connection that has held for
    `stable` begins at `base` again."""

    base: Duration = 1.0
    cap: Duration = 120.0
    stable: Duration = 30.0

    @model_validator(mode="after")
    def _makes_sense(self) -> Backoff:
        if not 0 < self.base <= self.cap <= 86_400:
            raise ValueError("base is more than 0 and not above cap, cap not above 1d")
        return self


class Presence(Part):
    """`notifications`: say at `topic` whether the bridge is there, retained `1` or `0`; the broker says `0` when it
    goes without a word. Not said: where Mosquitto does. `devices`: where to say which devices are here, retained.
    `sys`: below which to say some figures as Mosquitto does below `$SYS/broker`."""

    notifications: bool = True
    topic: Annotated[str, Field(min_length=1, max_length=1024), AfterValidator(plain_topic)] | None = None
    devices: TemplateText | None = None
    sys: Annotated[str, Field(min_length=1, max_length=1024), AfterValidator(plain_topic)] | None = None

    @model_validator(mode="after")
    def _makes_sense(self) -> Presence:
        if self.devices is not None and Template(self.devices).names != {SUB}:
            raise ValueError("devices needs {sub}, and nothing else")
        return self


class HomeAssistant(Part):
    """Announce devices that have labels `ha.…` to Home Assistant. `state` and `command`: where their values are and
    orders go."""

    prefix: Prefix = "homeassistant"
    status: Annotated[str, Field(max_length=1024), AfterValidator(plain_topic)] = "homeassistant/status"
    state: TemplateText = "gateway/{sub}/{entity}"
    command: TemplateText = "gateway/{sub}/{entity}/set"
    availability: TemplateText = "gateway/{sub}/availability"

    @model_validator(mode="after")
    def _makes_sense(self) -> HomeAssistant:
        for text, names in (
            (self.state, {SUB, "entity"}),
            (self.command, {SUB, "entity"}),
            (self.availability, {SUB}),
        ):
            if Template(text).names != names:
                raise ValueError(f"{text!r} needs {', '.join('{' + name + '}' for name in sorted(names))}")
        return self


class Bridge(Body):
    """An MQTT broker beside this node: which topics are which routes, and who may use which."""

    kind: Literal["Bridge"]
    enabled: bool = told("Whether it connects.", True)
    mqtt: Broker = told("How the broker is reached.")
    topics: tuple[TopicRule, ...] = told("Which topics are which routes.", (), max_length=MAX_RULES)
    rpc: tuple[Rpc, ...] = told("Topics whose messages ask for an answer.", (), max_length=MAX_RULES)
    call: tuple[Call, ...] = told("Where answers of devices of MQTT 3.1.1 come.", (), max_length=MAX_RULES)
    publish: Filters = told("Topics that it may publish to at all.", ("#",))
    subscribe: Filters = told("Topics that it may subscribe to at all.", ("#",))
    routes: tuple[Names, ...] | None = told(
        "What it may call; not said: what its rules reach.", None, max_length=MAX_FILTERS
    )
    loop: Loop = told("How messages are kept from going round.", Loop())
    backoff: Backoff = told("Between two tries to connect.", Backoff())
    presence: Presence = told("Where it says that it is there.", Presence())
    sparkplug: Literal["off", "aware"] = told("Whether it reads Sparkplug B.", "off")
    home_assistant: HomeAssistant | None = told("Announce devices to Home Assistant.", None)

    @property
    def service(self) -> str:
        """Under which its own services are."""
        return PREFIX + self.name

    @property
    def client_id(self) -> str:
        return self.mqtt.client_id or f"gateway-{self.name}"

    @property
    def state_topic(self) -> str | None:
        """Where it says whether it is there; None: nowhere."""
        if not self.presence.notifications:
            return None
        return self.presence.topic or f"$SYS/broker/connection/{self.client_id}/state"

    @property
    def caches_repetitions(self) -> bool:
        """Whether what comes back is known by what it says."""
        if self.loop.cache is not None:
            return self.loop.cache
        return self.mqtt.version == 4 and any(rule.direction is Direction.BOTH for rule in self.topics)

    @cached_property
    def rules(self) -> Rules:
        return Rules(
            inbound=tuple(rule.inward(at) for at, rule in enumerate(self.topics) if rule.goes_in),
            outbound=tuple(rule.outward(at) for at, rule in enumerate(self.topics) if rule.goes_out),
            rpc=tuple(rule.inward(at) for at, rule in enumerate(self.rpc)),
            calls=tuple(rule.rule(at) for at, rule in enumerate(self.call)),
            publish=self.publish,
            subscribe=self.subscribe,
        )

    @cached_property
    def grants(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """What it may register and what it may call, as patterns of a principal."""
        services = (self.service, f"{self.service}.*", *self.rules.services)
        return services, self.routes if self.routes is not None else tuple(dict.fromkeys(self._reaches()))

    def _reaches(self) -> Iterator[str]:
        for rule in (*self.rules.inbound, *self.rules.rpc):
            yield rule.reach
