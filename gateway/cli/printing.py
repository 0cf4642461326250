"""What comes out: data as text, JSON or raw bytes, on standard output."""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

TextOrJson = Annotated[Literal["text", "json"], typer.Option("-o", "--output", help="How to print.")]
DataFormat = Annotated[
    Literal["text", "json", "raw"],
    typer.Option("-o", "--output", help="text: with a line end; json: one object a line; raw: the bytes alone."),
]
Payload = Annotated[
    str,
    typer.Argument(metavar="DATA", help="What to send; - reads standard input, @FILE a file.", show_default=False),
]


def payload(text: str) -> bytes:
    """Return the bytes that a DATA argument means."""
    if text == "-":
        return sys.stdin.buffer.read()
    if text.startswith("@"):
        try:
            return Path(text[1:]).read_bytes()
        except OSError as error:
            raise typer.BadParameter(f"{text[1:]}: {error.strerror}") from None
    return text.encode()


def show(data: bytes, style: str, **more: Any) -> None:
    """Print one answer or item. Bytes that are no text go out as they are, or as hexadecimal to a terminal.

    `more` is added to the JSON object.
    """
    out = sys.stdout.buffer
    match style:
        case "raw":
            out.write(data)
        case "json":
            out.write(json.dumps({**_as_json(data), **more}, ensure_ascii=False).encode() + b"\n")
        case _:
            if _is_text(data):
                out.write(data if data.endswith(b"\n") else data + b"\n")
            elif sys.stdout.isatty():
                out.write(data.hex(" ").encode() + b"\n")
            else:
                out.write(data)
    out.flush()


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _as_json(data: bytes) -> dict[str, str]:
    if _is_text(data):
        return {"data": data.decode()}
    return {"base64": base64.b64encode(data).decode()}
