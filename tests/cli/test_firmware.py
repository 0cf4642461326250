"""`gateway firmware` and `gateway rollout` on a running node."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.cli.conftest import RunningNode, Shell
from tests.cli.test_device import document, here

__all__ = ["here"]

FOR = ("--board", "pico")


async def test_firmware_from_its_upload_to_its_end(here: Shell, tmp_path: Path) -> None:
    """Larger than any other body may be."""
    image = tmp_path / "app.bin"
    image.write_bytes(bytes(range(256)) * 8000)
    tried = await here.run("firmware", "add", str(image), *FOR, "--version", "1.1.0", "--dry-run")
    assert tried.code == 0, tried.err
    assert tried.out.endswith(b"(dry run: nothing was changed)\n")
    added = await document(here, "firmware", "add", str(image), *FOR, "--version", "1.1.0", "--notes", "faster")
    assert (added["size"], added["publisher"]) == (2_048_000, "")
    (listed,) = await document(here, "firmware", "ls", *FOR)
    assert listed == added == await document(here, "firmware", "show", added["id"])
    other = tmp_path / "other.bin"
    other.write_bytes(b"another")
    clash = await here.run("firmware", "add", str(other), *FOR, "--version", "1.1.0")
    assert clash.code == 1
    assert "a version never changes" in clash.err
    assert (await here.run("firmware", "rm", added["id"])).code == 2
    assert (await here.run("firmware", "rm", added["id"], "--yes")).code == 0
    assert await document(here, "firmware", "ls", *FOR) == []


async def test_a_publisher_signs(here: Shell, tmp_path: Path) -> None:
    image, key, none = tmp_path / "app.bin", tmp_path / "key.pem", tmp_path / "none.pem"
    image.write_bytes(b"image")
    pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    key.write_bytes(pem)
    none.write_bytes(b"none")
    wrong = await here.run("firmware", "add", str(image), *FOR, "--version", "2", "--sign", str(none))
    assert wrong.code == 2
    assert "openssl genpkey" in wrong.err
    added = await document(here, "firmware", "add", str(image), *FOR, "--version", "2", "--sign", str(key))
    assert (len(added["publisher"]), len(added["signature"])) == (43, 86)
    assert (await here.run("firmware", "rm", added["id"], "--yes")).code == 0


async def test_a_rollout(here: Shell, node: RunningNode, tmp_path: Path) -> None:
    image = tmp_path / "app.bin"
    image.write_bytes(b"image")
    firmware = await document(here, "firmware", "add", str(image), *FOR, "--version", "3")
    assert (await here.run("device", "add", "ota-1", "--label", "ring=1", "--json")).code == 0
    begun = await here.run(
        "rollout", "start", firmware["id"], "--label", "ring=1", "--percent", "50", "--confirm", "5m"
    )
    assert begun.code == 0, begun.err
    number, _, what = begun.out.decode().partition(": ")
    assert what == "pico 3 for 50 % of ring=1\n"
    table = (await here.run("rollout", "ls")).out.decode().splitlines()
    assert table[1].split()[:6] == [number, "running", "pico", "3", "ring=1", "50"]
    grown = await document(here, "rollout", "percent", number, "100")
    assert grown["percentage"] == 100
    status = await document(here, "rollout", "status", number)
    assert (status["confirm_s"], status["reached"]) == (300, 1)
    assert await document(here, "rollout", "devices", number, "--state", "failed") == []
    assert (await here.run("rollout", "pause", number)).out.decode() == f"{number} paused\n"
    assert (await document(here, "rollout", "status", number))["state"] == "paused"
    assert (await here.run("rollout", "resume", number, "--retry")).code == 0
    used = await here.run("firmware", "rm", firmware["id"], "--yes")
    assert used.code == 1
    assert "abort that first" in used.err
    assert (await here.run("rollout", "abort", number, "--yes")).code == 0
    assert [each["id"] for each in await document(here, "rollout", "ls", "--state", "aborted")] == [number]
    assert (await here.run("firmware", "rm", firmware["id"], "--yes")).code == 0
