"""`gateway cert` and `gateway ca`: the listeners' certificate, and the authority that devices trust."""

from __future__ import annotations

import hashlib
import ssl
import sys
from typing import Annotated

import typer

from gateway.cli.call import Change, Query, register
from gateway.cli.catalogue import application
from gateway.cli.table import Column, fields

COLUMNS = (
    Column("NAME", "name"),
    Column("FOR", "names"),
    Column("UNTIL", "not_after"),
    Column("DAYS LEFT", lambda entry: int(entry["days_left"])),
    Column("ISSUER", "issuer", wide=True),
    Column("SERIAL", "serial", wide=True),
    Column("SHA-256", "fingerprint_sha256", wide=True),
    Column("ISSUED HERE", "issued_here", wide=True),
)


def attach(app: typer.Typer) -> None:
    certificate = application(help="The certificates that a node shows.")
    register(certificate, show)
    register(certificate, renew)
    app.add_typer(certificate, name="cert")
    authority = application(help="The node's own authority, which devices trust.")
    register(authority, export)
    register(authority, fingerprint)
    app.add_typer(authority, name="ca")


def show(call: Query) -> None:
    """List certificates, what they are for, and until when they are valid."""
    call.list(call.api.get("/certificates")["data"], COLUMNS)


def renew(call: Change) -> None:
    """Issue the listeners' certificate anew; new connections see it at once."""
    call.confirm("Issue the certificate anew?")
    call.done("the certificate is issued anew", call.send("POST", "/certificates/renew"))


def export(
    call: Query,
    der: Annotated[bool, typer.Option("--der", help="In DER, which microcontrollers read.")] = False,
) -> None:
    """Print the authority's certificate in PEM, for clients to trust."""
    pem = _pem(call)
    sys.stdout.buffer.write(ssl.PEM_cert_to_DER_cert(pem) if der else pem.encode())
    sys.stdout.buffer.flush()


def fingerprint(call: Query) -> None:
    """Print the authority's SHA-256, to compare with what a device or person sees."""
    digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(_pem(call))).hexdigest()
    if call.for_people:
        typer.echo(":".join(digest[at : at + 2] for at in range(0, len(digest), 2)).upper())
    else:
        fields({"sha256": digest}, call.output)


def _pem(call: Query) -> str:
    data = call.context.data
    if data is not None:
        return (data / "identity" / "ca.pem").read_text()
    return call.api.ask("GET", "./ca.pem").text
