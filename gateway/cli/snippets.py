"""How `gateway device add` prints a credential: what it says, its QR code, and programs that use it."""

from __future__ import annotations

import io
from datetime import datetime
from typing import Literal

from gateway.control.snippets import PROGRAMS, Credential, environment, micropython

Choice = Literal["all", "qr", "env", "micropython"]


def rendered(given: Credential, choice: Choice) -> str:
    """What `gateway device add` prints."""
    match choice:
        case "env":
            return environment(given)
        case "micropython":
            return micropython(given)
        case "qr":
            return _head(given) + "\n" + _qr(given.line)
    note = (
        ""
        if not given.local
        else "This address is for this machine alone: node.advertised_url is what others need.\n\n"
    )
    if given.ca is not None and given.secure:
        note += (
            "The node has an authority of its own, which the device must trust:\n"
            "  gateway ca export > ca.pem          for Python and the command line\n"
            "  gateway ca export --der > ca.der    for boards\n\n"
        )
    return "\n".join(
        (
            _head(given),
            note + _qr(given.line),
            *(_titled(title, program(given)) for title, program in PROGRAMS.values()),
        )
    )


def _head(given: Credential) -> str:
    try:
        until = datetime.fromisoformat(given.expires_at).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")
    except ValueError:
        until = given.expires_at
    return f"device      {given.device}\naddress     {given.url}\nexpires     {until}\ncredential  {given.line}\n"


def _titled(title: str, text: str) -> str:
    return f"--- {title}\n{text}"


def _qr(line: str) -> str:
    import segno

    out = io.StringIO()
    segno.make(line, error="l").terminal(out, compact=True, border=2)
    return out.getvalue()
