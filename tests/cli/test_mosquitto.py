"""`gateway mqtt setup`: what it makes for a Mosquitto, what it keeps, and what it says. No broker is there."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from cryptography import x509

from gateway.bridges.mqtt.mosquitto_files import BRIDGE, HEALTH, hashed, matches
from tests.cli.conftest import RunningNode, Shell

DOCUMENT = """\
kind: Bridge
name: set-up
enabled: false
mqtt: {address: mqtts://mosquitto:8883, username: gateway, passwordFile: /nowhere/password}
topics: [{pattern: "s/{sub}", direction: out, route: telemetry.set-up}]
"""
#: `mosquitto_passwd -b passwords somebody sesame`, of Mosquitto 2.0.11.
THEIRS = (
    "$7$101$jkn2wZBa2M5FGcYF$QBLb2F8dmwSgoxYBzCkvL7ltOaqWSXSgf7Wx/YZ0w7vIQnlTfFToYAT0l/q0X0q/pB1hg3PeurdOHMJSLxcJBA=="
)


def entries(broker: Path) -> dict[str, str]:
    return dict(line.split(":", 1) for line in (broker / "passwords").read_text().splitlines())


async def test_what_a_mosquitto_needs(node: RunningNode, shell: Shell, tmp_path: Path) -> None:
    broker, acl, document = tmp_path / "broker", tmp_path / "acl", tmp_path / "mqtt.yaml"
    acl.write_text("pattern readwrite devices/%u/#\n")
    document.write_text(DOCUMENT)
    here = shell.with_environment(GATEWAY_DATA=str(node.data))
    words = ("mqtt", "setup", str(broker), "--name", "mosquitto", "--acl", str(acl), "--documents", str(document))
    tried = await here.run(*words, "--dry-run")
    assert (tried.code, broker.exists()) == (0, False), tried.err
    made = await here.run(*words)
    assert (made.code, made.out.decode()) == (
        0,
        "made: certificate, password of gateway, password of health, acl, Bridge/set-up\n",
    ), made.err
    assert (await here.run("get", "bridge", "set-up")).code == 0

    own = node.data / "mosquitto" / "password"
    first = own.read_text().strip()
    assert matches(first, entries(broker)[BRIDGE])
    user, password = (broker / "health" / "mosquitto_sub").read_text().split()[1::2]
    assert (user, matches(password, entries(broker)[HEALTH])) == (HEALTH, True)
    assert first != password
    assert all(path.stat().st_mode & 0o77 == 0 for path in (own, broker, *broker.rglob("*")))
    assert first not in made.out.decode() + made.err

    # TLS believes it: signed by the node's authority, for that name, key and certificate a pair.
    shown = x509.load_pem_x509_certificate((broker / "server.pem").read_bytes())
    shown.verify_directly_issued_by(x509.load_pem_x509_certificate((broker / "ca.pem").read_bytes()))
    assert (broker / "ca.pem").read_bytes() == (node.data / "identity" / "ca.pem").read_bytes()
    names = shown.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "mosquitto" in names.get_values_for_type(x509.DNSName)
    ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(broker / "server.pem")

    # Again: nothing. What was lost is made again, and only that; whom somebody has added stays.
    again = await here.run(*words)
    assert (again.code, again.out.decode()) == (0, "all is there\n"), again.err
    with (broker / "passwords").open("a") as file:
        file.write(f"oven:{hashed('sesame', b'0123456789ab')}\n")
    own.unlink()
    (broker / "server.pem").write_text("cut off")
    mended = await here.run(*words)
    assert mended.out.decode() == "made: certificate, password of gateway\n"
    assert own.read_text().strip() != first
    assert matches(own.read_text().strip(), entries(broker)[BRIDGE])
    assert matches("sesame", entries(broker)["oven"])
    await here.run("delete", "bridge", "set-up", "--yes")


async def test_what_is_wrong_is_one_line(node: RunningNode, shell: Shell, tmp_path: Path) -> None:
    here = shell.with_environment(GATEWAY_DATA=str(node.data))
    wrong = tmp_path / "mqtt.yaml"
    wrong.write_text("kind: Bridge\nname: x\nmqtt: {addr: mqtt://broker}\n")
    refused = await here.run("mqtt", "setup", str(tmp_path / "broker"), "--documents", str(wrong))
    assert refused.code == 1
    assert "addr" in refused.err
    assert not (tmp_path / "broker").exists()
    (tmp_path / "file").touch()
    for words, text in (
        ((str(tmp_path / "file" / "broker"),), "Not a directory"),
        ((str(tmp_path / "broker"), "--acl", str(tmp_path / "none")), "No such file or directory"),
        ((str(tmp_path / "broker"), "--name", "not a host"), "neither a host name nor an address"),
    ):
        ended = await here.run("mqtt", "setup", *words)
        (line,) = ended.err.splitlines()
        assert (ended.code, text in line) == (1, True), line


@pytest.mark.parametrize("entry", ["", "$6$salt$hash", "$7$101$!$x", "$7$1000$MDEyMzQ1Njc4OWFi$x", "plain"])
def test_an_entry_that_is_no_such_thing(entry: str) -> None:
    assert not matches("sesame", entry)


def test_an_entry_of_mosquitto_passwd() -> None:
    assert matches("sesame", THEIRS)
    assert not matches("sesame2", THEIRS)
