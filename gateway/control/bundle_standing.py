"""Which node is to act by which bundle, and what has come of it. Pure decisions over what central nodes know.

A node is offered the newest bundle that is not aborted and reaches it. A bundle reaches a share of the nodes that have
all of its labels, in an order that its id and theirs make: the nodes of 10 % are among those of 50 %, and of three
nodes 33 % are one. A node that has got it keeps it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from math import ceil
from typing import Any, Final

from gateway.control.held_bundles import HeldState
from gateway.control.rollout_steps import Phase, place_of
from gateway.documents.bundles import Facts
from gateway.errors import NotFound

MAX_LABELS: Final = 32
FAILED: Final = frozenset({HeldState.REJECTED, HeldState.ROLLED_BACK})


@dataclass(frozen=True, slots=True)
class Bundle:
    """`number` is the version. `labels`: each `key=value`. `digest`: of the manifest. What may change of it has a
    `revision`, made by the node `revised_by`. `attempt`: how often nodes that failed were offered it again."""

    id: str
    number: int
    maker: str
    made_at: float
    made_by: str
    comment: str
    digest: str
    signature: str
    documents: tuple[str, ...]
    labels: tuple[str, ...]
    percentage: float
    max_failures: int
    forgiven: int
    attempt: int
    state: Phase
    reason: str
    revision: int
    revised_by: str
    updated_at: float

    @property
    def for_all(self) -> bool:
        return not self.labels and self.percentage >= 100

    @property
    def stand(self) -> tuple[int, str]:
        """Of two of one id the later one holds."""
        return self.revision, self.revised_by

    def selects(self, labels: Mapping[str, str]) -> bool:
        return all(labels.get(key) == value for key, _, value in (each.partition("=") for each in self.labels))


@dataclass(frozen=True, slots=True)
class BundleNode:
    """What a node has said last. `active`: id of the bundle that it acts by; `tried`: of the last that it was given,
    what came of that, and why. `said`: Unix ms by its clock, and more than ever before; `at`: the same in seconds."""

    node: str
    name: str
    role: str
    labels: dict[str, str]
    active: str
    tried: str
    attempt: int
    state: str
    reason: str
    said: int
    at: float

    @property
    def facts(self) -> Facts:
        return Facts(self.node, self.name, self.role, self.labels)


class Outcome(StrEnum):
    """What is known of a node and the bundle that it should act by."""

    WAITING = "waiting"
    ACTIVE = "active"
    REJECTED = "rejected"
    ROLLED_BACK = "rolled_back"


class Standing:
    """`known`: all bundles by id; `nodes`: what each node has said last. `is_here`: whether a node is a member."""

    def __init__(self, is_here: Callable[[str], bool]) -> None:
        self.known: dict[str, Bundle] = {}
        self.nodes: dict[str, BundleNode] = {}
        self.is_here = is_here
        self._reached: dict[str, frozenset[str]] = {}

    def reach_changed(self) -> None:
        """Nodes, their labels or bundles are others than before."""
        self._reached.clear()

    def get(self, number: int) -> Bundle:
        """Of two with one version the newer one. Raises NotFound."""
        found = [bundle for bundle in self.known.values() if bundle.number == number]
        if not found:
            raise NotFound(f"there is no bundle {number}")
        return max(found, key=lambda bundle: bundle.id)

    def wanted(self, node: Facts) -> Bundle | None:
        """What a node is to act by, if it does not act by a newer one."""
        for bundle in sorted(self.known.values(), key=lambda each: each.id, reverse=True):
            if bundle.state is Phase.ABORTED:
                continue
            said = self.nodes.get(node.id)
            if said is not None and said.tried == bundle.id and said.attempt >= bundle.attempt:
                return bundle
            if bundle.state is Phase.RUNNING and self._reaches(bundle, node):
                return bundle
        return None

    def reached(self, bundle: Bundle) -> frozenset[str]:
        """The nodes, of those that have said anything, to which it goes now."""
        found = self._reached.get(bundle.id)
        if found is not None:
            return found
        fit = [each.node for each in self.nodes.values() if bundle.selects(each.labels) and self.is_here(each.node)]
        fit.sort(key=lambda node: (place_of(bundle.id, node), node))
        found = frozenset(fit[: ceil(len(fit) * bundle.percentage / 100 - 1e-9)])
        self._reached[bundle.id] = found
        return found

    def outcome(self, said: BundleNode) -> tuple[Bundle | None, Outcome]:
        """What a node should act by, and what has come of that."""
        wanted = self.wanted(said.facts)
        if wanted is None or said.active == wanted.id:
            return wanted, Outcome.ACTIVE
        if said.tried == wanted.id and said.attempt >= wanted.attempt and said.state in FAILED:
            return wanted, Outcome(said.state)
        return wanted, Outcome.WAITING

    def counts(self, bundle: Bundle) -> dict[Outcome, int]:
        """How many nodes stand how with a bundle: of those that it reaches, or that have tried it."""
        counted = dict.fromkeys(Outcome, 0)
        reached = self.reached(bundle) if bundle.state is not Phase.ABORTED else frozenset()
        for said in self.nodes.values():
            if said.active == bundle.id:
                counted[Outcome.ACTIVE] += 1
            elif said.tried == bundle.id and said.attempt >= bundle.attempt and said.state in FAILED:
                counted[Outcome(said.state)] += 1
            elif said.node in reached and (said.tried, said.attempt) < (bundle.id, bundle.attempt):
                counted[Outcome.WAITING] += 1
        return counted

    def failures(self, bundle: Bundle) -> int:
        failed = (each for each in self.nodes.values() if each.tried == bundle.id and each.state in FAILED)
        return sum(each.attempt >= bundle.attempt for each in failed)

    def good_before(self, key: str | None = None) -> Bundle | None:
        """The newest bundle that is for all nodes, of those before one, or of all."""
        good = [each for each in self.known.values() if each.for_all and each.state is not Phase.ABORTED]
        return max((each for each in good if key is None or each.id < key), key=lambda each: each.id, default=None)

    def _reaches(self, bundle: Bundle, node: Facts) -> bool:
        return bundle.for_all or node.id in self.reached(bundle)


def node_in(said: Any, node: Facts) -> BundleNode:
    """What a node says of itself, as another one has it from a link. Raises ValueError, KeyError, TypeError."""
    labels = said["labels"]
    if not isinstance(labels, dict) or len(labels) > MAX_LABELS:
        raise ValueError("no labels")
    texts = [*labels, *labels.values(), said["active"], said["tried"], said["state"], said["reason"]]
    if not all(isinstance(text, str) and len(text) <= 1024 for text in texts):
        raise ValueError("no state of a bundle")
    number = int(said["said"])
    return BundleNode(
        node=node.id,
        name=node.name,
        role=node.role,
        labels=labels,
        active=said["active"],
        tried=said["tried"],
        attempt=int(said["attempt"]),
        state=said["state"],
        reason=said["reason"],
        said=number,
        at=number / 1000,
    )
