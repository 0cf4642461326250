"""What the validator says: a code that does not change, a place, and what to do.

`CODES` is the list of them; `docs/documents.md` holds it, and a test compares the two.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

#: Code → what it says of a document.
CODES = MappingProxyType(
    {
        "GW0101": "The text is no YAML and no JSON, or uses what documents may not: anchors, tags, a name twice.",
        "GW0102": "The kind is not known, or there is none.",
        "GW0103": "A field is unknown, missing, or not what it must be.",
        "GW0104": "Two documents of the text have one kind and name.",
        "GW0111": "The spool may grow beyond what the volume has room for.",
        "GW0112": "A time of 0: nothing would ever be kept.",
        "GW0113": "A match can never be met: one that comes before it takes all of it.",
        "GW0114": "A shorter life than `maxAge` is meant by `ttl`, and it is not shorter.",
        "GW0115": "One message may be larger than the whole spool.",
        "GW0116": "The node's own services, under `gateway`, are always there: nothing can wait for them.",
        "GW0117": "The match takes whatever nobody serves, mistyped routes included.",
        "GW0118": "`conflate` keeps the last value of a key, and without a key there is none.",
        "GW0119": "`queueWhileOffline` and a match of requestResponse go together.",
        "GW0121": "A bridge would receive by one rule what it publishes by another: a loop.",
        "GW0122": "Messages would go round through this bridge and others of the node.",
        "GW0123": "A rule never acts: one before it takes all of its topics.",
        "GW0124": "Two rules have topics in common, which the first one has.",
        "GW0125": "A rule names a Spool that is not there, or that does not take what the rule sends.",
        "GW0126": "Under version 4 a rule of both directions needs the guard against repetitions.",
        "GW0127": "What version 4 (MQTT 3.1.1) does not have.",
        "GW0128": "The broker keeps no session while the bridge is away.",
        "GW0129": "A password or token would cross the network in the clear.",
        "GW0130": "More bridges than a node takes.",
        "GW0131": "A route names a subset that the service does not have.",
        "GW0132": "The weights of a route do not sum to 100.",
        "GW0133": "One of several destinations has no weight.",
        "GW0134": "Another document holds for the service.",
        "GW0135": "A route or a match is never met: one before it takes every request.",
        "GW0136": "Something is tried again that somebody may have processed, and is not marked idempotent.",
        "GW0137": "The time of a try does not fit the time of the request.",
        "GW0138": "A mirror sends copies to where the requests go.",
        "GW0139": "A fault meets every request, or ends each one that it meets.",
        "GW0140": "What waits by a Spool may die before the service is tried again.",
        "GW0141": "A Spool takes requests that would wait for somebody who serves them.",
        "GW0142": "The breaker can never open.",
        "GW0143": "No instance can ever be ejected.",
        "GW0144": "The node's own services are not governed by documents.",
        "GW0145": "The retry budget allows no retry.",
        "GW0146": "Two subsets are the same, or one is the whole service.",
        "GW0147": "The bucket is smaller than what one interval brings.",
        "GW0148": "An adaptive limit and `maxRequests` do not go together.",
        "GW0149": "What a fireAndForget cannot have.",
        "GW0150": "A wait is as long as the timeout that ends it.",
        "GW0161": "The key of a condition is not known.",
        "GW0162": "A condition names a value that its key can never have.",
        "GW0163": "A part of an `Access` that can never do anything.",
        "GW0164": "An `Access` refuses everything of everybody.",
        "GW0165": "The node's own services, under `gateway`, are out of reach of `Access`: devices must reach renewal.",
        "GW0166": "A rule rules out all that it asks for.",
        "GW0167": "A rule fits nothing that one before it does not.",
        "GW0168": "No `Bridge` has the topics.",
        "GW0169": "A DENY refuses to everybody what an ALLOW is about.",
        "GW0181": "Another document of the node says it already.",
        "GW0182": "What delivers spans is not installed on this node: it records none.",
        "GW0183": "The filter of the flow log cannot be read.",
        "GW0184": "A flow has no such field, or it cannot be left out.",
        "GW0185": "A share of the traces is never drawn: one before it takes all of its services.",
        "GW0191": "The selector `nodes` of a document in a bundle is not what it must be.",
        "GW0192": "A `Bridge` in a bundle says by `nodes` on which nodes it runs.",
        "GW0193": "A bundle has too many documents, or is too large.",
        "GW0194": "The document comes from the bundle that this node has: it is changed there.",
    }
)


@dataclass(frozen=True, slots=True)
class Finding:
    """`document`: its kind and name, as `Spool/telemetry`. `pointer`: where in it (RFC 6901). `line`: in the text,
    from 1; 0 where there is none. A `warning` keeps nobody from applying the document."""

    code: str
    text: str
    pointer: str = ""
    document: str = ""
    line: int = 0
    fix: str = ""
    warning: bool = False

    def __str__(self) -> str:
        place = ":".join(part for part in (str(self.line or ""), self.document, self.pointer) if part)
        return f"{place}: {self.code} {self.text}" if place else f"{self.code} {self.text}"
