"""`gateway firmware`: the images that devices can be updated to."""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.call import Change, Listing, Query, register
from gateway.cli.catalogue import application
from gateway.cli.table import Column

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_PIECE = 256 * 1024

Id = Annotated[str, typer.Argument(metavar="ID", help="Id of the firmware.", show_default=False)]

COLUMNS = (
    Column("ID", "id"),
    Column("BOARD", "board"),
    Column("VERSION", "version"),
    Column("BYTES", "size"),
    Column("ADDED", "created_at"),
    Column("DAMAGED", lambda row: bool(row["damaged"])),
    Column("SIGNED BY", "publisher", wide=True),
    Column("SHA-256", "sha256", wide=True),
    Column("NOTES", "notes", wide=True),
)


def attach(app: typer.Typer) -> None:
    group = application(help="Images that devices can be updated to.")
    for command in (add, ls, show, rm):
        register(group, command)
    app.add_typer(group, name="firmware")


def add(
    call: Change,
    file: Annotated[
        Path, typer.Argument(help="The image, as the board takes it.", show_default=False, exists=True, dir_okay=False)
    ],
    board: Annotated[str, typer.Option(help="Which board it is for, as devices say it.", show_default=False)],
    version: Annotated[str, typer.Option(help="Its version; a version never changes.", show_default=False)],
    notes: Annotated[str, typer.Option(help="What is new in it.", show_default=False)] = "",
    sign: Annotated[
        Path | None,
        typer.Option(
            help="Sign it with this Ed25519 key, a PEM file.", show_default=False, exists=True, dir_okay=False
        ),
    ] = None,
) -> None:
    """Upload an image. No device gets it before a rollout says so."""
    size, digest = 0, hashlib.sha256()
    for piece in _pieces(file):
        size += len(piece)
        digest.update(piece)
    params: dict[str, Any] = {"board": board, "version": version, "notes": notes, "sha256": digest.hexdigest()}
    if sign is not None:
        params |= _signed(_key(sign), board, version, size, digest.hexdigest())
    answer = call.send("POST", "/firmware", content=_pieces(file), media="application/octet-stream", **params)
    call.done(f"{answer['id']}: {board} {version}, {answer['size']} bytes", answer)


def ls(
    call: Listing,
    q: Annotated[str, typer.Option("-q", help="Only those that have this in them.", show_default=False)] = "",
    board: Annotated[str, typer.Option(help="Only those for this board.", show_default=False)] = "",
    sort: Annotated[
        str, typer.Option(help="created_at, board, size or id; - in front for descending.")
    ] = "-created_at",
) -> None:
    """List firmware, newest first."""
    call.pages("/firmware", COLUMNS, q=q, board=board, sort=sort)


def show(call: Query, firmware: Id) -> None:
    """Show all that is known of a firmware."""
    call.show(call.api.get(f"/firmware/{firmware}"))


def rm(call: Change, firmware: Id) -> None:
    """Remove a firmware and its image. No rollout may have it that is not aborted."""
    call.confirm(f"Remove firmware {firmware}?")
    call.send("DELETE", f"/firmware/{firmware}")
    call.done(f"{firmware} removed")


def _pieces(file: Path) -> Iterator[bytes]:
    try:
        with file.open("rb") as image:
            while piece := image.read(_PIECE):
                yield piece
    except OSError as error:
        raise typer.BadParameter(f"{file}: {error.strerror}") from None


def _key(file: Path) -> Ed25519PrivateKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    key: object
    try:
        key = load_pem_private_key(file.read_bytes(), None)
    except (OSError, ValueError, TypeError):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise typer.BadParameter(f"{file} holds no Ed25519 key: openssl genpkey -algorithm ed25519 makes one")
    return key


def _signed(key: Ed25519PrivateKey, board: str, version: str, size: int, sha256: str) -> dict[str, str]:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    from gateway.control.firmware import manifest

    public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return {"publisher": _text(public), "signature": _text(key.sign(manifest(board, version, size, sha256)))}


def _text(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
