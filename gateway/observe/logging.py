"""The log: structlog over the standard library, so that libraries' records take the same way out.

The rules (fault 101):

* No control character reaches the stream: what a peer sent cannot forge a line, clear a terminal or reverse its text. A
  traceback's lines are marked, so that an exception's text cannot pass for a line of the log.
* No credential reaches it: values under a telling name, and tokens, ``Bearer …`` and private keys inside a text, are
  replaced. Say ``subject`` and ``token_id`` instead.
* Of bytes at most 32 are shown, in hex; a long text is cut.

What is logged is the caller's business. Not for the data plane, which does not log.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, TextIO

from gateway.observe.loggers import structlog

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor, WrappedLogger

Level = Literal["debug", "info", "warning", "error"]
Format = Literal["auto", "console", "json"]

MAX_SHOWN_BYTES = 32
MAX_TEXT_CHARACTERS = 2_000
MAX_TRACEBACK_LINES = 200
HIDDEN = "<hidden>"

_HANDLER = "gateway"
_MAX_DEPTH = 4
_SECRET_NAMES = re.compile(
    r"(.*[_-])?(token|jwt|bearer|authorization|cookie|password|passwd|secret|credential|private_key|signing_key|api_key)s?",
    re.IGNORECASE,
)
_SECRETS = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
    r"|\beyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*)?"
    r"|(?<=\bbearer )[A-Za-z0-9._~+/=-]+",
    re.IGNORECASE | re.DOTALL,
)


def configure(level: Level = "info", format: Format = "auto", stream: TextIO | None = None) -> None:
    """Send every record from ``level`` up to ``stream`` (standard error), and replace what an earlier call set.

    ``auto`` is the console's form on a terminal and JSON, one object a line, elsewhere.
    """
    out = sys.stderr if stream is None else stream
    console = format == "console" or (format == "auto" and out.isatty())
    first: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: Processor
    if console:
        renderer = structlog.dev.ConsoleRenderer(colors=out.isatty(), exception_formatter=structlog.dev.plain_traceback)
    else:
        renderer = structlog.processors.JSONRenderer()
    handler = logging.StreamHandler(out)
    handler.set_name(_HANDLER)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=first,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                clean,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    for old in [old for old in root.handlers if old.get_name() == _HANDLER]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *first, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def clean(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Make every value fit for the stream; a structlog processor."""
    return {
        escape(str(name)): _traceback(value) if name in ("exception", "stack") else _cleaned(str(name), value, 0)
        for name, value in event.items()
    }


def escape(text: str) -> str:
    """The text with every character that is not printable written as in Python: ``\\x1b``, ``\\u202e``."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else _code(character) for character in text)


def _code(character: str) -> str:
    number = ord(character)
    if number <= 0xFF:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number <= 0xFFFF else f"\\U{number:08x}"


def _cleaned(name: str, value: object, depth: int) -> object:
    if value is None or isinstance(value, bool):
        return value
    if _SECRET_NAMES.fullmatch(name):
        return HIDDEN
    if isinstance(value, int | float):
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        return _hex(bytes(value[:MAX_SHOWN_BYTES]), len(value))
    if depth < _MAX_DEPTH and isinstance(value, Mapping):
        return {escape(str(key)): _cleaned(str(key), item, depth + 1) for key, item in value.items()}
    if depth < _MAX_DEPTH and isinstance(value, list | tuple | set | frozenset):
        return [_cleaned("", item, depth + 1) for item in value]
    return _text(value if isinstance(value, str) else str(value))


def _text(text: str) -> str:
    # Hidden before it is cut: half a token is still half a secret.
    text = _SECRETS.sub(HIDDEN, text)
    if len(text) > MAX_TEXT_CHARACTERS:
        text = f"{text[:MAX_TEXT_CHARACTERS]}… ({len(text)} characters)"
    return escape(text)


def _hex(head: bytes, length: int) -> str:
    return head.hex() if length <= len(head) else f"{head.hex()}… ({length} bytes)"


def _traceback(value: object) -> str:
    lines = _SECRETS.sub(HIDDEN, str(value)).split("\n")
    if len(lines) > MAX_TRACEBACK_LINES:
        half = MAX_TRACEBACK_LINES // 2
        lines = [*lines[:half], f"… ({len(lines) - 2 * half} lines)", *lines[-half:]]
    return "\n".join(f"  | {_text(line)}" for line in lines)
