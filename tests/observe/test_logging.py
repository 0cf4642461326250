"""The log: forms, levels, and what must never be in it (fault 101)."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st

from gateway.observe.logging import HIDDEN, clean, configure, escape
from gateway.policy.tokens import mint


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def root() -> Iterator[logging.Logger]:
    """The root logger, put back afterwards."""
    logger = logging.getLogger()
    handlers, level = logger.handlers[:], logger.level
    yield logger
    logger.handlers[:] = handlers
    logger.setLevel(level)
    structlog.reset_defaults()


KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
TOKEN = mint(KEY, "k1", "gateway:n", "gateway", "thermostat-1", "device", [], [], 60, 1_800_000_000)
PEM = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def json_lines(out: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_json_is_one_object_a_line() -> None:
    out = io.StringIO()
    configure("info", "json", out)
    structlog.get_logger("gateway.node").info("started", port=7878, secure=True)
    structlog.get_logger("gateway.node").warning("second")
    first, second = json_lines(out)
    assert first.pop("timestamp").endswith("Z")
    assert first == {"event": "started", "level": "info", "logger": "gateway.node", "port": 7878, "secure": True}
    assert second["level"] == "warning"


def test_console_is_one_line_a_record() -> None:
    out = io.StringIO()
    configure("info", "console", out)
    structlog.get_logger("gateway.node").info("started", port=7878)
    assert "started" in out.getvalue()
    assert "port=7878" in out.getvalue()
    assert "\x1b" not in out.getvalue()
    assert out.getvalue().count("\n") == 1


def test_auto_is_the_console_on_a_terminal_and_json_elsewhere() -> None:
    terminal, pipe = Terminal(), io.StringIO()
    configure("info", "auto", terminal)
    structlog.get_logger().info("started")
    configure("info", "auto", pipe)
    structlog.get_logger().info("started")
    assert "\x1b[" in terminal.getvalue()
    assert json_lines(pipe)[0]["event"] == "started"


def test_without_a_stream_it_is_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info", "json")
    structlog.get_logger().info("started")
    assert json.loads(capsys.readouterr().err)["event"] == "started"


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error"])
def test_records_below_the_level_are_not_written(level: Any) -> None:
    out = io.StringIO()
    configure(level, "json", out)
    logger = structlog.get_logger("x")
    for name in ("debug", "info", "warning", "error"):
        getattr(logger, name)(name)
        getattr(logging.getLogger("library"), name)(name)
    levels = ["debug", "info", "warning", "error"]
    expected = [name for name in levels[levels.index(level) :] for _ in range(2)]
    assert [line["level"] for line in json_lines(out)] == expected


def test_a_second_call_replaces_the_first_for_loggers_that_exist(root: logging.Logger) -> None:
    first, second = io.StringIO(), io.StringIO()
    configure("error", "json", first)
    logger = structlog.get_logger("x")
    logger.info("unseen")
    configure("debug", "json", second)
    logger.debug("seen")
    assert first.getvalue() == ""
    assert [line["event"] for line in json_lines(second)] == ["seen"]
    assert len([handler for handler in root.handlers if handler.get_name() == "gateway"]) == 1


def test_records_of_libraries_take_the_same_way() -> None:
    out = io.StringIO()
    configure("info", "json", out)
    logging.getLogger("library").warning("token %s of %s\n", TOKEN, "peer\x1b[2J")
    (line,) = json_lines(out)
    assert (line["event"], line["logger"], line["level"]) == (
        f"token {HIDDEN} of peer\\x1b[2J\\x0a",
        "library",
        "warning",
    )


def test_bound_context_is_in_every_record() -> None:
    out = io.StringIO()
    configure("info", "json", out)
    with structlog.contextvars.bound_contextvars(connection=7):
        structlog.get_logger().info("inside")
    structlog.get_logger().info("outside")
    inside, outside = json_lines(out)
    assert inside["connection"] == 7
    assert "connection" not in outside


@pytest.mark.parametrize("form", ["console", "json"])
@given(text=st.text(st.characters(), max_size=60))
def test_fault_101_no_control_character_gets_through(form: Any, text: str) -> None:
    """Fault 101: in the message, in a value, in a name, in an exception."""
    # The test runner keeps what is logged, and cannot pass lone surrogates on to its reporter.
    logging.getLogger().handlers.clear()
    out = io.StringIO()
    configure("info", form, out)
    logger = structlog.get_logger("x")
    logger.info(text, value=text, inner={text: [text]}, **{"n" + text: 1})
    try:
        raise ValueError(text)
    except ValueError:
        logger.exception("failed")
    lines = out.getvalue().split("\n")
    assert all(line.isprintable() for line in lines)
    if form == "json":
        assert len(lines) == 3
    else:
        assert all(line.startswith("  | ") for line in lines[2:-1])


def test_fault_101_a_forged_line_stays_inside_its_record() -> None:
    """Fault 101: a peer's text with a line end and a whole record behind it."""
    out = io.StringIO()
    configure("info", "console", out)
    logger = structlog.get_logger("x")
    forged = "no\n2026-01-01T00:00:00Z [info     ] admin logged in"
    logger.info("refused", text=forged)
    try:
        raise ValueError(forged)
    except ValueError:
        logger.exception("failed")
    assert not any(line.startswith("2026-01-01T00:00:00Z") for line in out.getvalue().splitlines())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain Wärme", "plain Wärme"),
        ("a\0b\r\n", "a\\x00b\\x0d\\x0a"),
        ("\u202e\x85", "\\u202e\\x85"),
        ("\U000e0001", "\\U000e0001"),
        ("\ud800", "\\ud800"),
    ],
)
def test_fault_101_escaping(text: str, expected: str) -> None:
    assert escape(text) == expected


SECRETS = [TOKEN, TOKEN.rpartition(".")[0], PEM, "sk-canary.4711"]


@pytest.mark.parametrize("form", ["console", "json"])
@pytest.mark.parametrize("secret", SECRETS)
def test_fault_101_no_credential_gets_through(form: Any, secret: str) -> None:
    """Fault 101: planted canaries, wherever a careless call could put one."""
    out = io.StringIO()
    configure("debug", form, out)
    logger = structlog.get_logger("x")
    logger.info("by name", token=secret, Authorization=secret, resume_token=secret, api_key=secret, passwords=[secret])
    logger.info("deeper", request={"headers": {"authorization": secret}, "list": [{"secret": secret}]})
    logger.info("bytes", token=secret.encode())
    if secret != "sk-canary.4711":
        logger.info(f"in the message {secret} here", value=f"and {secret}", items=(secret,), error=ValueError(secret))
        try:
            raise ValueError(f"bad {secret}")
        except ValueError:
            logger.exception("failed")
            logging.getLogger("library").exception("failed %s", secret)
    logger.info("Authorization: Bearer sk-canary.4711")
    written = out.getvalue()
    assert HIDDEN in written
    for canary in ("canary", TOKEN.split(".")[1][:20], TOKEN.split(".")[2][:20], PEM.splitlines()[1][:20]):
        assert canary not in written


def test_fault_101_a_number_can_be_a_secret_too() -> None:
    assert clean(None, "info", {"password": 4711, "token": None}) == {"password": HIDDEN, "token": None}


def test_a_token_is_named_by_its_subject_and_id() -> None:
    out = io.StringIO()
    configure("info", "json", out)
    structlog.get_logger().info("refused", subject="thermostat-1", token_id="5f", reason="token_expired", tokens_seen=3)
    (line,) = json_lines(out)
    assert (line["subject"], line["token_id"], line["reason"], line["tokens_seen"]) == (
        "thermostat-1",
        "5f",
        "token_expired",
        3,
    )


def test_fault_101_of_a_bad_frame_32_bytes_are_shown() -> None:
    """Fault 101: at most 32 bytes of what a peer sent."""
    event = clean(
        None, "info", {"short": b"\x00\xff", "at": bytes(32), "over": memoryview(bytes(33)), "big": bytearray(10**6)}
    )
    assert event == {
        "short": "00ff",
        "at": "00" * 32,
        "over": "00" * 32 + "… (33 bytes)",
        "big": "00" * 32 + "… (1000000 bytes)",
    }


def test_a_long_text_is_cut_and_a_secret_in_it_before_that() -> None:
    cut = clean(None, "info", {"text": "x" * 3_000, "secret_at_the_cut": "y" * 1_990 + " " + TOKEN})
    assert cut["text"] == "x" * 2_000 + "… (3000 characters)"
    assert cut["secret_at_the_cut"] == "y" * 1_990 + " " + HIDDEN


def test_a_long_traceback_is_cut_in_the_middle() -> None:
    lines = clean(None, "error", {"exception": "\n".join(f"line {n}" for n in range(1_000))})["exception"].split("\n")
    assert (len(lines), lines[0], lines[100], lines[-1]) == (201, "  | line 0", "  | … (800 lines)", "  | line 999")


def test_values_keep_their_type_where_json_has_one() -> None:
    event = {"none": None, "yes": True, "number": 1.5, "set": frozenset({1}), "object": ValueError("a\nb")}
    assert clean(None, "info", event) == {
        "none": None,
        "yes": True,
        "number": 1.5,
        "set": [1],
        "object": "a\\x0ab",
    }


def test_a_value_that_holds_itself_does_not_hang() -> None:
    loop: list[Any] = []
    loop.append(loop)
    assert clean(None, "info", {"loop": loop})["loop"] == [[[["[[...]]"]]]]
