"""What would become of a message: for who writes rules, before anything is sent."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from gateway.topics.rules import Rules, Step


@dataclass(frozen=True, slots=True)
class Trial:
    """By one bridge. `rule` and what follows are None where no rule takes the topic in; `selecting` are the tags that
    choose who gets it; `steps` is what each rule says."""

    bridge: str
    rule: str | None = None
    local: str | None = None
    route: str | None = None
    tags: dict[str, str] = field(default_factory=dict)
    selecting: dict[str, str] = field(default_factory=dict)
    spool: str | None = None
    steps: tuple[Step, ...] = ()

    def shown(self) -> dict[str, Any]:
        """As the admin API shows it."""
        return asdict(self) | {"steps": [step._asdict() for step in self.steps]}


def trial(bridge: str, rules: Rules, topic: str, *, answer: bool = False) -> Trial:
    """`answer`: the message names a response topic."""
    steps = tuple(step for step in rules.explain(topic) if answer or step.direction != "rpc")
    took = next((step for step in steps if step.took and step.direction in ("rpc", "in")), None)
    if took is None:
        return Trial(bridge, steps=steps)
    found = rules.calling(topic) if took.direction == "rpc" else rules.incoming(topic)
    assert found is not None
    return Trial(
        bridge,
        took.rule,
        found.local,
        found.route,
        dict(found.tags),
        dict(found.selecting),
        getattr(found.rule, "spool", None),
        steps,
    )
