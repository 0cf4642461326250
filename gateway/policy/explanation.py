"""Why somebody may do something or may not, in words: one shape for the admin API and the command line."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from gateway.policy.asking import Ask, Caller
from gateway.policy.judgement import Judgement


@dataclass(frozen=True, slots=True)
class Explanation:
    """`granted`: what the caller's token allows; None where no token of theirs is known. `steps`: what each rule says,
    in the order in which they count; `fits` says that it fits, `why` why not."""

    allowed: bool
    granted: bool | None
    policy: str
    rule: int
    audits: tuple[str, ...]
    dry_run_denied: str
    text: str
    steps: tuple[dict[str, Any], ...]

    def shown(self) -> dict[str, Any]:
        return asdict(self)


def explain(judgement: Judgement, caller: Caller, ask: Ask, granted: bool | None = None) -> Explanation:
    verdict = judgement.judge(caller, ask)
    steps = tuple(
        {
            "policy": step.policy,
            "action": str(step.action),
            "dry_run": step.dry_run,
            "rule": step.rule,
            "fits": not step.why,
            "why": step.why,
        }
        for step in judgement.explain(caller, ask)
    )
    if not verdict.allowed:
        why = f"rule {verdict.rule} of it fits" if verdict.rule >= 0 else "it has this in its scope, and no ALLOW fits"
        text = f"refused by Access/{verdict.policy}: {why}"
    elif granted is False:
        text = "refused by what the token allows; no document refuses it"
    elif verdict.policy:
        text = f"allowed by Access/{verdict.policy}: rule {verdict.rule} of it fits"
    else:
        text = "allowed: no document has anything to say of it"
    allowed = verdict.allowed and granted is not False
    return Explanation(
        allowed, granted, verdict.policy, verdict.rule, verdict.audits, verdict.dry_run_denied, text, steps
    )
