"""`gateway central setup`: several nodes made one federation on disk, with all that their NATS servers need."""

from __future__ import annotations

import shutil
import ssl
import time
from pathlib import Path

import pytest
from cryptography import x509

from gateway.control.certificates import certificate_names
from gateway.control.members import CENTRAL, EDGE, Member
from gateway.control.plane import ControlPlane
from gateway.errors import FederationError, StorageError
from gateway.federation.nats.credentials import Nkey, public_key
from gateway.federation.nats.keyring import Keyring
from tests.cli.conftest import Result, Shell, environment

SERVERS = ("nats-1", "nats-2")
NODES = {"central-1": CENTRAL, "central-2": CENTRAL, "edge": EDGE}


class Town:
    def __init__(self, root: Path) -> None:
        self.root = root
        for server in SERVERS:
            (root / server).mkdir()
        (root / "keyring").mkdir()

    async def setup(self, *more: str) -> Result:
        nodes = [f"--{role}={name}={self.root / name}" for name, role in NODES.items()]
        servers = [f"--nats={name}={self.root / name}" for name in SERVERS]
        shell = Shell(environment(self.root))
        return await shell.run("central", "setup", *nodes, *servers, f"--keyring={self.root / 'keyring'}", *more)

    async def members(self, name: str) -> dict[str, Member]:
        async with await ControlPlane.offline(self.root / name) as control:
            return {member.name: member for member in control.members.all()}


@pytest.fixture
async def town(tmp_path: Path) -> Town:
    town = Town(tmp_path)
    made = await town.setup()
    assert made.code == 0, made.err
    assert made.out.decode().splitlines() == [
        "central-1, central-2, edge: made one federation",
        "keys and certificates: written for central-1, central-2, nats-1, nats-2",
    ]
    return town


async def test_each_node_knows_all_of_them(town: Town) -> None:
    for name in NODES:
        members = await town.members(name)
        assert {each.name: each.role for each in members.values()} == NODES
        assert members["central-2"].urls == ("wss://central-2:7878/rsocket",)
        assert members["central-2"].peer_url == "tls://central-2:7879"
        assert members["edge"].urls == ()


async def test_done_again_it_changes_nothing_and_nodes_may_run(town: Town) -> None:
    before = {path: path.read_bytes() for path in town.root.rglob("*.[pnc][eok]*") if path.is_file()}
    async with await ControlPlane.offline(town.root / "central-1"):
        again = await town.setup()
    assert again.out.decode().splitlines() == [
        "central-1, central-2, edge: are one federation",
        "keys and certificates: in order",
    ]
    assert {path: path.read_bytes() for path in before} == before


async def test_a_node_that_has_lost_its_data_takes_its_place_again(town: Town) -> None:
    """As another one, for which the others must be stopped; its nkey is that of before."""
    before, nkey = await town.members("central-1"), (town.root / "central-2" / "nats.nk").read_bytes()
    shutil.rmtree(town.root / "central-2")
    async with await ControlPlane.offline(town.root / "central-1"):
        refused = await town.setup()
    assert refused.code == 1
    assert refused.err.splitlines() == [
        "gateway: central-1 runs, and one of central-1, central-2, edge is new to it: stop them all, and try again"
    ]
    assert (await town.setup()).code == 0
    after = await town.members("central-1")
    assert set(after) == set(NODES)
    assert after["central-2"].id != before["central-2"].id
    assert (town.root / "central-2" / "nats.nk").read_bytes() == nkey


async def test_what_the_servers_have_is_right_for_each_other_and_for_nodes(town: Town) -> None:
    authority = ssl.create_default_context(cafile=town.root / "central-1" / "nats-ca.pem")
    assert len(authority.get_ca_certs()) == 1
    for server in SERVERS:
        held = x509.load_pem_x509_certificate((town.root / server / "server.pem").read_bytes())
        assert server in certificate_names(held)
        held.verify_directly_issued_by(x509.load_pem_x509_certificate((town.root / server / "ca.pem").read_bytes()))
        purposes = held.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        assert len(purposes) == 2
        assert (town.root / server / "server.pem").stat().st_mode & 0o777 == 0o600
        accounts = (town.root / server / "accounts.conf").read_text()
        for key in ("central-1/nats.nk", "central-2/nats.nk", "keyring/admin.nk"):
            assert public_key(town.root / key) in accounts


def test_a_certificate_is_renewed_in_time_and_a_broken_keyring_is_named(tmp_path: Path) -> None:
    now = time.time()
    (tmp_path / "n").mkdir()
    Keyring(tmp_path, now).fill({"n": tmp_path / "n"}, {}, "rt")
    later = Keyring(tmp_path, now + 9 * 365 * 86400)
    later.fill({"n": tmp_path / "n"}, {}, "rt")
    assert later.changed == []
    much_later = Keyring(tmp_path, now + 10 * 365.3 * 86400)
    much_later.fill({"n": tmp_path / "n"}, {}, "rt")
    assert much_later.changed == ["n"]
    (tmp_path / "ca-key.pem").write_text("scribble")
    with pytest.raises(StorageError, match=r"ca-key\.pem holds no EC key"):
        Keyring(tmp_path, now).fill({}, {}, "rt")


@pytest.mark.parametrize("words", [["--central", "c1"], ["--central", "c1=/x", "--nats", "n1=/y"]])
async def test_what_is_no_pair(tmp_path: Path, words: list[str]) -> None:
    assert (await Shell(environment(tmp_path)).run("central", "setup", *words)).code == 2


def test_an_nkey_is_as_nats_has_it(tmp_path: Path) -> None:
    """Made with the reference's own library for Python, 0.2.1."""
    seed = tmp_path / "seed"
    seed.write_text("SUAAAAICAMCAKBQHBAEQUCYMBUHA6EARCIJRIFIWC4MBSGQ3DQOR4H776Y")
    key = Nkey.read(seed)
    assert key.public_key == "UAB2CB576PHBBPQ5ODORRZ2LYCMWPZGWGCN2KDK7DXOIMZASKUY3RLKK"
    assert (
        key.sign("nonce") == b"+HTq4d6DDHVNb8MsTRAZtSIa0vXA/yuZblwTA7JT5wYzmKBxJ2wpYfjHh7hcptZlidbVw/6ZLyubjm/yDk+OCQ=="
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "SUAA",
        "nonsense!",
        "SUAAAAICAMCAKBQHBAEQACYMBUHA6EARCIJRIFIWC4MBSGQ3DQOR4H776Y",
        "SAAAAAICAMCAKBQHBAEQUCYMBUHA6EARCIJRIFIWC4MBSGQ3DQOR4HYMHI",
    ],
)
def test_what_is_no_nkey(tmp_path: Path, text: str) -> None:
    (tmp_path / "seed").write_text(text)
    with pytest.raises(FederationError, match="holds no nkey of a user"):
        Nkey.read(tmp_path / "seed")
    with pytest.raises(FederationError, match="cannot be read: No such file"):
        Nkey.read(tmp_path / "none")
