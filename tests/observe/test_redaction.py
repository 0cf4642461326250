"""What is hidden in a support bundle, and what is not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.observe.redaction import HIDDEN, Redaction

JWT = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJraXRjaGVuIn0.c2lnbmF0dXJl"


@pytest.mark.parametrize(
    "name",
    [
        "password",
        "mqtt_password",
        "mqttPassword",
        "token",
        "accessToken",
        "api_key",
        "api-keys",
        "Authorization",
        "psk",
    ],
)
def test_a_field_is_a_secret_by_its_name(name: str) -> None:
    redaction = Redaction(personal=False)
    assert redaction.clean({name: "hunter2", "other": ["x", {name: ["a", "b"]}]}) == {
        name: HIDDEN,
        "other": ["x", {name: [HIDDEN, HIDDEN]}],
    }
    assert redaction.counted["secret"] == 3


@pytest.mark.parametrize("name", ["passwordFile", "tokens_refused", "secret_count", "keys", "monkey"])
def test_a_field_that_only_sounds_like_one_is_shown(name: str) -> None:
    assert Redaction(personal=False).clean({name: "/run/x"}) == {name: "/run/x"}


def test_what_is_no_text_is_shown() -> None:
    document = {"must_change_password": True, "secret": False, "token": 3, "password": None, "cookie": ""}
    assert Redaction(personal=True).clean(document) == document


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        (f"refused: {JWT} is old", JWT),
        ("-----BEGIN EC PRIVATE KEY-----\nMHcCAQEE\n-----END EC PRIVATE KEY-----", "MHcCAQEE"),
        ("-----BEGIN PRIVATE KEY-----\nMHcCAQEE", "MHcCAQEE"),
        ("Authorization: Bearer abc.def-123", "abc.def-123"),
        ("key gk_a1b2c3_0123456789abcdef used", "gk_a1b2c3_0123456789abcdef"),
        ("gwj1.eyJjYSI6IjEifQ", "gwj1.eyJjYSI6IjEifQ"),
        ("mqtts://bob:hunter2@broker:8883", "hunter2"),
        ("https://node/#/login?code=gl_short&x=1", "gl_short"),
        ("wss://node/rsocket?token=hunter2", "hunter2"),
        ("connect with password=hunter2, please", "hunter2"),
        ('{"password": "hunter2"}', "hunter2"),
        ("SUAIBDPBAUTWCWBKIO6XHQNINK5FWJW4OHLXC3HQ2KFE4PEJUA44CNHTC4", "SUAIBDPBAUTWC"),
        ("$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA", "aGFzaA"),
    ],
)
def test_a_secret_is_known_by_its_form(text: str, secret: str) -> None:
    redaction = Redaction(personal=False)
    shown = redaction.text(text)
    assert secret not in shown
    assert HIDDEN in shown
    assert sum(redaction.counted.values()) == 1


def test_a_secret_that_is_known_is_hidden_wherever_it_is() -> None:
    redaction = Redaction(personal=False, known=["correct horse", "ab"])
    assert redaction.clean({"a": "is it correct horse? ab"}) == {"a": f"is it {HIDDEN}? ab"}


class TestWhoAndWhere:
    DOCUMENTS: tuple[dict[str, Any], ...] = (
        {"data": [{"subject": "kitchen-7", "peer": "websocket 192.0.2.7:4711"}]},
        {"kind": "device.updated", "data": {"by": "user:alice", "text": "kitchen-7.set_target from [2001:db8::1]:80"}},
        {"kitchen-7": 3, "actor_id": "alice", "ip": "192.0.2.7", "listens": "127.0.0.1:7878 0.0.0.0:80"},
    )

    def test_is_replaced_by_the_same_everywhere(self) -> None:
        redaction = Redaction(personal=True)
        for document in self.DOCUMENTS:
            redaction.learn(document)
        shown = [redaction.clean(document) for document in self.DOCUMENTS]
        text = json.dumps(shown)
        for hidden in ("kitchen-7", "alice", "192.0.2.7", "2001:db8"):
            assert hidden not in text
        name = shown[0]["data"][0]["subject"]
        assert shown[1]["data"]["text"].startswith(f"{name}.set_target from ")
        assert name in shown[2]
        assert shown[2]["actor_id"] == shown[1]["data"]["by"].removeprefix("user:")
        assert shown[2]["listens"] == self.DOCUMENTS[2]["listens"]
        assert Redaction(personal=True).clean({"subject": "kitchen-7"})["subject"] != name

    def test_is_shown_where_it_is_asked_for(self) -> None:
        redaction = Redaction(personal=False)
        for document in self.DOCUMENTS:
            redaction.learn(document)
            assert redaction.clean(document) == document

    def test_words_of_the_program_stay(self) -> None:
        redaction = Redaction(personal=True)
        redaction.learn({"user": "admin", "device": "12", "subject": "oven"})
        assert redaction.clean({"name": "admin.listen", "at": "12:12:12", "n": "12"}) == {
            "name": "admin.listen",
            "at": "12:12:12",
            "n": "12",
        }
        assert redaction.clean({"actor_id": "admin", "device": "12"})["device"] != "12"
