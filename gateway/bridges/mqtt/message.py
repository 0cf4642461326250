"""A message as MQTT carries it, without any client's objects."""

from __future__ import annotations

from typing import NamedTuple


class Properties(NamedTuple):
    """Those of MQTT 5 that cross the bridge; a message of MQTT 3.1.1 has none. `text`: the payload is UTF-8 (payload
    format indicator); None where nobody says. `expiry_s`: what is left of its life, in seconds. `user`: in their order,
    a name may be there twice."""

    content_type: str | None = None
    text: bool | None = None
    expiry_s: int | None = None
    response_topic: str | None = None
    correlation: bytes | None = None
    user: tuple[tuple[str, str], ...] = ()

    def of_user(self, name: str) -> str | None:
        """The first user property of this name."""
        return next((value for key, value in self.user if key == name), None)


NO_PROPERTIES = Properties()


class Message(NamedTuple):
    """`duplicate`: its sender has sent it before, as far as it knows."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    duplicate: bool = False
    properties: Properties = NO_PROPERTIES
