"""Members that are new, or have changed, are told to whoever is linked: peers of all, children of central nodes.

Whole rolls are compared when a peer link comes up (`dialling`); in between only what is news is told on, until nobody
learns anything by it. What a child says of members is not listened to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gateway.control.members import CENTRAL, Members
from gateway.federation.answers import as_json
from gateway.forwarding.links import DOWNLINK, PEER

if TYPE_CHECKING:
    from gateway.federation.federation import Federation


class Acquainting:
    def __init__(self, federation: Federation, members: Members) -> None:
        self._federation = federation
        self._members = members
        self._seen = self._versions()

    def members_changed(self) -> None:
        before, self._seen = self._seen, self._versions()
        news = [each for each in self._members.document() if before.get(each["id"]) != each["updated_at"]]
        centrals = [each for each in news if each["role"] == CENTRAL]
        for link in list(self._federation.links.values()):
            told: list[dict[str, Any]] = news if link.side == PEER else centrals if link.side == DOWNLINK else []
            if told and link.usable:
                link.ask("gateway.members", as_json({"members": told}), lambda document: None, lambda text: None)

    def _versions(self) -> dict[str, float]:
        return {each["id"]: each["updated_at"] for each in self._members.document()}
