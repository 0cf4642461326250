"""Settings of the links to other nodes."""

from __future__ import annotations

from pydantic import model_validator

from gateway.config.values import Section, Texts, setting


class Links(Section):
    """Links to other nodes, of which a node has some once `gateway join` or `gateway central init` was run on it."""

    parents: Texts = setting(
        (),
        "Addresses of the central nodes that an edge dials, instead of those that it was told when it joined. "
        "Separated by commas in the environment.",
    )
    keepalive_ms: int = setting(
        500, "How often a node that has dialled asks over a link whether the other is there.", ge=50, le=60_000
    )
    silence_ms: int = setting(
        1_750, "How long nothing may come over a link before it is taken for dead, in milliseconds.", ge=200, le=600_000
    )
    connect_timeout_s: float = setting(2.0, "Seconds for a link to be dialled.", gt=0, le=60)
    backoff_max_s: float = setting(
        5.0, "Longest pause before a link is dialled again; each is drawn from zero to twice the one before.", gt=0
    )
    accept_services: Texts = setting(
        ("*",), "Services, as patterns, that a parent or peer may offer to the clients of this node."
    )
    accept_calls: Texts = setting(
        ("*",), "Routes, as patterns, that requests from a parent or peer may call on this node."
    )

    @model_validator(mode="after")
    def _heard_in_time(self) -> Links:
        if self.silence_ms < 2 * self.keepalive_ms:
            raise ValueError("silence_ms is below two keepalives")
        return self
