"""Certificates: what the listeners show, until when it holds, and a new one."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from gateway.admin.access import By, Operations
from gateway.admin.context import Context, Here
from gateway.admin.problem import Problem
from gateway.admin.shapes import DryRun, Shown, Time
from gateway.control.certificates import certificate_names

operations = Operations("certificates", "system")


class CertificateView(Shown):
    """`name`: `listener` or `ca`. `fingerprint_sha256` is of the DER form, in hex."""

    name: str
    subject: str
    issuer: str
    names: list[str]
    not_before: Time
    not_after: Time
    days_left: float
    serial: str
    fingerprint_sha256: str
    issued_here: bool


class Certificates(Shown):
    data: list[CertificateView]


@operations.get("/certificates", response_model=Certificates)
async def list_certificates(here: Here) -> Any:
    """The listeners' certificate and the authority that signed it."""
    return await asyncio.to_thread(_all, here)


@operations.post("/certificates/renew", problems=(409,), response_model=Certificates)
async def renew_certificate(here: Here, by: By, dry_run: DryRun = False) -> Any:
    """Issue the listeners' certificate anew, with a new key. Connections that are open stay as they are."""
    if not here.node.issues_certificate:
        raise Problem("conflict", "tls.certificate names files of your own: replace those; the node reads them again")
    if not dry_run:
        await here.control.audit.record(by, "certificate.renew", "certificate:listener")
        await asyncio.to_thread(here.identity.renew_certificate, here.plane.wall())
        here.node.reload_certificate()
        here.events.add("certificate.renewed", by.id)
    return await asyncio.to_thread(_all, here)


def _all(here: Context) -> Certificates:
    now = here.plane.wall()
    shown = []
    for name, path in (("listener", here.node.certificate_path), ("ca", here.identity.ca_path)):
        certificate = x509.load_pem_x509_certificate(Path(path).read_bytes())
        shown.append(_view(name, certificate, now, issued_here=name == "ca" or here.node.issues_certificate))
    return Certificates(data=shown)


def _view(name: str, certificate: x509.Certificate, now: float, *, issued_here: bool) -> CertificateView:
    ends: Any = certificate.not_valid_after_utc
    begins: Any = certificate.not_valid_before_utc
    return CertificateView(
        name=name,
        subject=certificate.subject.rfc4514_string(),
        issuer=certificate.issuer.rfc4514_string(),
        names=list(certificate_names(certificate)),
        not_before=begins,
        not_after=ends,
        days_left=round((ends.timestamp() - now) / 86_400, 2),
        serial=f"{certificate.serial_number:x}",
        fingerprint_sha256=certificate.fingerprint(SHA256()).hex(),
        issued_here=issued_here,
    )
