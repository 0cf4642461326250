"""What those who help need to know of a node, in one archive: parts, what was hidden in them, and a manifest.

Who asks for the parts is the command (`gateway support-bundle`) or the admin API; what they are is here. Bounded: each
part in size, all of them together, and whoever collects them in time. Must not know: how a node is asked.
"""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import time
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from gateway.observe.redaction import Redaction

MAX_PART_BYTES: Final = 1 << 20
MAX_BYTES: Final = 16 << 20
ENTRIES: Final = 200


class Ask(NamedTuple):
    """A part that the admin API has: its name in the archive, where it is, with which parameters. `without`: fields of
    its entries that are not wanted."""

    name: str
    path: str
    parameters: Mapping[str, str | int] = {}
    without: tuple[str, ...] = ()

    def wanted(self, answer: Any) -> Any:
        """What goes into the archive of an answer."""
        if not self.without:
            return answer
        entries = [{name: value for name, value in each.items() if name not in self.without} for each in answer["data"]]
        return {**answer, "data": entries}


def _listed(name: str, path: str, *without: str, **parameters: str | int) -> Ask:
    return Ask(name, path, {"limit": ENTRIES, **parameters}, without)


ASKED: Final = (
    Ask("node", "/node"),
    Ask("health", "/health"),
    Ask("stats", "/node/stats"),
    Ask("history", "/node/history"),
    Ask("features", "/node/features"),
    Ask("config", "/config"),
    _listed("config-history", "/config/history"),
    Ask("certificates", "/certificates"),
    Ask("devices-summary", "/devices/summary"),
    _listed("connections-open", "/connections", state="open"),
    _listed("connections-closed", "/connections", state="closed"),
    _listed("routes", "/routes"),
    _listed("services", "/services"),
    Ask("graph", "/graph"),
    Ask("red", "/red"),
    Ask("topology", "/topology"),
    _listed("peers", "/peers"),
    _listed("documents", "/documents"),
    _listed("bundles", "/bundles"),
    _listed("bundles-held", "/bundles/held"),
    _listed("bundles-nodes", "/bundles/nodes"),
    _listed("spools", "/spools"),
    _listed("mqtt-bridges", "/mqtt/bridges"),
    _listed("issuers", "/issuers"),
    _listed("rollouts", "/rollouts"),
    _listed("backups", "/backups"),
    _listed("events", "/events"),
    # What was changed holds whatever configurations of devices hold, under names that nobody knows.
    _listed("audit", "/audit", "before", "after", "diff"),
)
#: Asked to know names that are to be hidden; they are in no archive.
NAMES: Final = (("id", Ask("devices", "/devices", {"limit": 1000})), ("name", Ask("users", "/users", {"limit": 1000})))
README: Final = """\
What a gateway knows of itself, for somebody who is to help. MANIFEST.json says what is here, what is not and why, and
what was hidden. Look through it before you send it to anybody: it is text.
"""


class SupportBundle:
    """Parts are added, then `archive` makes the file. `about`: what the manifest says of the whole."""

    def __init__(self, redaction: Redaction, about: Mapping[str, Any], wall: float) -> None:
        self._redaction = redaction
        self._about = dict(about)
        self._wall = wall
        self._documents: dict[str, Any] = {}
        self._texts: dict[str, str] = {}
        self._missing: dict[str, str] = {}
        self._plain: set[str] = set()

    def add(self, name: str, document: Any, *, plain: bool = False) -> None:
        """A part as JSON. `plain`: there is nothing in it to hide, only what looks so, as a version like an address."""
        if plain:
            self._plain.add(name)
        else:
            self._redaction.learn(document)
        self._documents[name] = document
        self._missing.pop(name, None)

    def add_text(self, name: str, text: str) -> None:
        """A part as text; of one that is too large the end is kept."""
        self._texts[name] = text

    def missing(self, name: str, why: str) -> None:
        if name not in self._documents and name not in self._texts:
            self._missing[name] = why

    @property
    def lacks(self) -> Mapping[str, str]:
        """Parts that could not be had, and why."""
        return self._missing

    def archive(self) -> bytes:
        """The tar.gz. Everything has been hidden that the redaction hides, in the manifest, too."""
        parts: list[dict[str, Any]] = []
        files: list[tuple[str, bytes]] = []
        room = MAX_BYTES
        for name in (*self._documents, *self._texts):
            if room <= 0:
                self._missing[name] = f"the archive may have {MAX_BYTES} bytes"
                continue
            if name in self._documents:
                file, (data, cut) = f"{name}.json", self._json(name)
            else:
                file, (data, cut) = f"{name}.txt", self._text(self._texts[name])
            if len(data) > room:
                self._missing[name] = f"the archive may have {MAX_BYTES} bytes"
                continue
            room -= len(data)
            files.append((file, data))
            parts.append({"name": file, "bytes": len(data), **({"cut": cut} if cut else {})})
        missing = {name: self._redaction.text(why) for name, why in self._missing.items()}
        manifest = {
            **self._redaction.clean(self._about),
            "made_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._wall)),
            "parts": parts,
            "missing": missing,
            "hidden": {
                "secrets": "always",
                "names_and_addresses": "replaced by pseudonyms"
                if self._redaction.personal
                else "shown, as was asked for",
                "counted": dict(self._redaction.counted),
            },
        }
        text = json.dumps(manifest, indent=2, ensure_ascii=False).encode() + b"\n"
        return self._packed([("MANIFEST.json", text), ("README.txt", README.encode()), *files])

    def _json(self, name: str) -> tuple[bytes, str]:
        document = self._documents[name]
        cleaned = document if name in self._plain else self._redaction.clean(document)
        data = _written(cleaned)
        if len(data) <= MAX_PART_BYTES:
            return data, ""
        entries = cleaned.get("data") if isinstance(cleaned, dict) else None
        if not isinstance(entries, list):
            return _written({"left out": f"it has {len(data)} bytes"}), "left out"
        kept = len(entries)
        while kept and len(data) > MAX_PART_BYTES:
            kept //= 2
            data = _written({**cleaned, "data": entries[:kept]})
        return data, f"the first {kept} of {len(entries)}"

    def _text(self, text: str) -> tuple[bytes, str]:
        data = self._redaction.text(text).encode(errors="replace")
        if len(data) <= MAX_PART_BYTES:
            return data, ""
        return data[-MAX_PART_BYTES:], f"the last {MAX_PART_BYTES} of {len(data)} bytes"

    def _packed(self, files: list[tuple[str, bytes]]) -> bytes:
        out = io.BytesIO()
        with (
            gzip.GzipFile(fileobj=out, mode="wb", mtime=self._wall) as packed,
            tarfile.open(fileobj=packed, mode="w") as tar,
        ):
            for name, data in files:
                entry = tarfile.TarInfo(f"gateway-support/{name}")
                entry.size, entry.mode, entry.mtime = len(data), 0o600, int(self._wall)
                tar.addfile(entry, io.BytesIO(data))
        return out.getvalue()


def _written(document: Any) -> bytes:
    return json.dumps(document, indent=1, ensure_ascii=False, default=str).encode(errors="replace") + b"\n"
