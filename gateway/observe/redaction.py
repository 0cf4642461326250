"""What must not leave with a support bundle: secrets never; who and where people and devices are, unless that is asked.

Secrets are known by the name of their field and by their form. Who and where is replaced by a pseudonym, the same for
the same within one bundle, so that one can still follow a device through it. Must not know: what a document means.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
import secrets
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, Final

HIDDEN: Final = "<hidden>"

#: Fields whose text is a secret, in snake_case, camelCase and with dashes.
_SECRET_NAMES: Final = re.compile(
    r".*(?:password|passwd|passphrase|secret|token|jwt|bearer|authorization|cookie|credential|psk"
    r"|(?:private|signing|api|shared)[_-]?key)s?",
    re.IGNORECASE,
)
#: What a secret looks like, by what it is. Of what has a group of its own, that is the secret.
_FORMS: Final = {
    kind: re.compile(form, re.IGNORECASE | re.DOTALL)
    for kind, form in {
        "private key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
        "token": r"\beyJ[\w-]+\.[\w-]+(?:\.[\w-]*)?",
        "key or code of the gateway": r"\bg[a-z]_[\w-]{12,}|\bgwj1\.[\w=-]+",
        "seed of NATS": r"\bS[UAOCNX][A-Z2-7]{48,}\b",
        "hash of a password": r"\$(?:argon2[a-z]*|2[aby]|pbkdf2[a-z0-9-]*|[1567y])\$[^\s\"']+",
        "login in an address": r"(?<=://)[^/@\s\"']*:[^/@\s\"']*(?=@)",
        "word after its name": r"(?:\b(?:bearer|basic) |(?:password|passwd|secret|token|api_key)[\"']?\s?[=:]\s?[\"']?"
        r"|[?&](?:code|key)=)([^\s&,;\"'<]+)",
    }.items()
}
#: Fields that say who or where.
_PERSONAL: Final = frozenset(
    (
        "subject",
        "device",
        "user",
        "caller",
        "peer",
        "remote",
        "ip",
        "client_id",
        "clientId",
        "username",
        "sub",
        "actor_id",
    )
)
_ADDRESS: Final = re.compile(
    r"(?<![\w.:])(?:\d{1,3}(?:\.\d{1,3}){3}|\[?[0-9a-fA-F]{0,4}(?::[0-9a-fA-F]{0,4}){2,7}\]?)(?![\w:])"
)
_WORD: Final = re.compile(r"[\w-]+(?:[.@:/][\w-]+)*")
_PARTS: Final = re.compile(r"([.@:/])")
_LEAST: Final = 4
#: Names that are words of the program as well: replaced where a field says that they are names, and nowhere else.
_COMMON: Final = frozenset(
    {"admin", "anonymous", "api_key", "central", "cli", "client", "default", "device", "devices", "edge", "gateway"}
    | {"internal", "limits", "listen", "local", "node", "operator", "peer", "publisher", "service", "storage", "system"}
    | {"telemetry", "test", "user", "viewer"}
)


class Redaction:
    """`personal`: who and where is hidden, too. `known`: secrets that are hidden wherever they are. `counted`: what was
    hidden, and how often."""

    def __init__(self, *, personal: bool, known: Iterable[str] = ()) -> None:
        self.personal = personal
        self.counted: Counter[str] = Counter()
        self._salt = secrets.token_bytes(16)
        self._names: set[str] = set()
        self._known = sorted((each for each in known if len(each) >= _LEAST), key=len, reverse=True)

    def learn(self, document: Any) -> None:
        """Take over the names of people and devices that a document has, so that they are hidden in all others."""
        if isinstance(document, Mapping):
            for name, value in document.items():
                if name in _PERSONAL and isinstance(value, str):
                    self.learn_name(value)
                self.learn(value)
        elif isinstance(document, list | tuple):
            for item in document:
                self.learn(item)

    def learn_name(self, name: str) -> None:
        name = name.rpartition(":")[2] if not _is_address(name) else ""
        if len(name) >= _LEAST and not name.isdecimal() and name.lower() not in _COMMON:
            self._names.add(name)

    def clean(self, document: Any, name: str = "") -> Any:
        """The same document without what must not leave."""
        if isinstance(document, Mapping):
            return {self.text(str(key)): self.clean(value, str(key)) for key, value in document.items()}
        if isinstance(document, list | tuple):
            return [self.clean(item, name) for item in document]
        if not isinstance(document, str) or not document:
            return document
        if _SECRET_NAMES.fullmatch(name):
            self.counted["secret"] += 1
            return HIDDEN
        if self.personal and name in _PERSONAL and document.lower() not in _COMMON:
            return self._pseudonym(document)
        return self.text(document)

    def text(self, text: str) -> str:
        for secret in self._known:
            if secret in text:
                self.counted["secret"] += text.count(secret)
                text = text.replace(secret, HIDDEN)
        for kind, form in _FORMS.items():
            text = form.sub(partial(self._hide, kind), text)
        if not self.personal:
            return text
        return _WORD.sub(self._word, _ADDRESS.sub(self._address, text))

    def _hide(self, kind: str, found: re.Match[str]) -> str:
        self.counted[kind] += 1
        return HIDDEN if not found.lastindex else found[0].removesuffix(found[1]) + HIDDEN

    def _address(self, found: re.Match[str]) -> str:
        return self._pseudonym(found[0]) if _is_address(found[0]) and not _says_nothing(found[0]) else found[0]

    def _word(self, found: re.Match[str]) -> str:
        word = found[0]
        if word in self._names:
            return self._pseudonym(word)
        if not _PARTS.search(word):
            return word
        # A route begins with the name of who serves it: the longest run of parts that is a name.
        parts = _PARTS.split(word)
        kept, at = [], 0
        while at < len(parts):
            ends = range(len(parts), at, -2)
            end = next((end for end in ends if "".join(parts[at:end]) in self._names), None)
            kept.append(parts[at] if end is None else self._pseudonym("".join(parts[at:end])))
            at = at + 1 if end is None else end
        return "".join(kept)

    def _pseudonym(self, value: str) -> str:
        if _is_address(value) and _says_nothing(value):
            return value
        self.counted["address" if _is_address(value) else "name"] += 1
        kind = "addr" if _is_address(value) else "id"
        return f"{kind}-{hashlib.blake2b(value.encode(), key=self._salt, digest_size=4).hexdigest()}"


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return False
    return True


def _says_nothing(text: str) -> bool:
    """Of this machine, or of every one."""
    address = ipaddress.ip_address(text.strip("[]"))
    return address.is_loopback or address.is_unspecified
