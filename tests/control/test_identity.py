"""The identity of a data directory: made once, whole, private, and never replaced in silence."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from gateway.control.certificates import new_key
from gateway.control.identity import Identity
from gateway.errors import ConfigError, StorageError, TokenError
from gateway.policy.principal import Kind
from gateway.policy.tokens import TokenVerifier

NOW = 1_800_000_000
DAY = 86_400


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def names(identity: Identity) -> set[str]:
    certificate = x509.load_pem_x509_certificate(identity.certificate_path.read_bytes())
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {str(name.value) for name in found}


def pem(key: Ed25519PrivateKey | rsa.RSAPrivateKey | object) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())  # type: ignore[attr-defined]


def test_the_first_start_makes_an_identity_and_the_next_one_finds_it(data: Path) -> None:
    first = Identity.open(data / "deeper")
    second = Identity.open(data / "deeper")
    assert (second.node_id, second.kid) == (first.node_id, first.kid)
    assert second.certificate_path.read_bytes() == first.certificate_path.read_bytes()
    assert first.issuer == f"gateway:{first.node_id}"
    assert len(first.kid) == 16
    assert "signing_key" not in repr(first)


def test_two_directories_have_two_identities(data: Path) -> None:
    one, two = Identity.open(data / "1"), Identity.open(data / "2")
    assert one.node_id != two.node_id
    assert one.kid != two.kid


def test_fault_76_keys_are_for_the_owner_alone(data: Path) -> None:
    """Fault 76: 0600 for keys, 0700 for directories, under a umask that would allow more."""
    before = os.umask(0)
    try:
        identity = Identity.open(data)
    finally:
        os.umask(before)
    assert mode(data) == 0o700
    assert mode(identity.directory) == 0o700
    for name in ("signing-key.pem", "ca-key.pem", "listener.pem", "node-id"):
        assert mode(identity.directory / name) == 0o600
    assert mode(identity.ca_path) == 0o644
    assert sorted(path.name for path in identity.directory.iterdir()) == [
        "ca-key.pem",
        "ca.der",
        "ca.pem",
        "listener.pem",
        "node-id",
        "signing-key.pem",
    ]


def test_fault_76_a_key_that_others_can_read_is_taken_back(data: Path) -> None:
    """Fault 76: a restored backup with wide modes."""
    identity = Identity.open(data)
    (identity.directory / "signing-key.pem").chmod(0o644)
    Identity.open(data)
    assert mode(identity.directory / "signing-key.pem") == 0o600


def test_a_directory_that_everybody_can_write_is_refused(data: Path) -> None:
    data.mkdir()
    data.chmod(0o777)
    with pytest.raises(StorageError, match=f"chmod 700 {data}"):
        Identity.open(data)
    assert list(data.iterdir()) == []


def test_a_data_directory_that_is_a_file_is_refused(data: Path) -> None:
    data.write_text("")
    with pytest.raises(StorageError, match="is not a directory"):
        Identity.open(data)
    with pytest.raises(StorageError, match="Not a directory"):
        Identity.open(data / "below")


def test_tokens_of_the_identity_are_accepted_by_its_keys(data: Path) -> None:
    identity = Identity.open(data, now=NOW)
    token = identity.mint(
        "thermostat-1", Kind.DEVICE, ["{sub}"], ["log.*"], 3600, NOW, groups=["lab"], labels={"site": "7"}
    )
    principal = TokenVerifier(Identity.open(data, now=NOW).verification_keys()).verify(token, NOW)
    assert (principal.subject, principal.issuer, principal.key_id) == ("thermostat-1", identity.issuer, identity.kid)
    assert (principal.groups, principal.labels) == (("lab",), (("site", "7"),))
    with pytest.raises(TokenError):
        identity.mint("no.dots", Kind.DEVICE, [], [], 3600, NOW)
    elsewhere = identity.mint("a", "user", [], [], 3600, NOW, audience="elsewhere")
    with pytest.raises(TokenError, match="another audience"):
        TokenVerifier(identity.verification_keys()).verify(elsewhere, NOW)
    with pytest.raises(TokenError):
        TokenVerifier(Identity.open(data.with_name("other")).verification_keys()).verify(token, NOW)


# --- certificates --------------------------------------------------------------------------------------------------


def handshake(identity: Identity, name: str, version: ssl.TLSVersion) -> str | None:
    """The TLS version that a client agrees on which trusts the authority alone and expects this name."""
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(identity.certificate_path, identity.key_path)
    client_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client_context.verify_flags |= ssl.VERIFY_X509_STRICT
    client_context.minimum_version = client_context.maximum_version = version
    client_context.load_verify_locations(identity.ca_path)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(to_client, to_server, server_hostname=name)
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    done: set[ssl.SSLObject] = set()
    while len(done) < 2:
        for side in (client, server):
            try:
                side.do_handshake()
                done.add(side)
            except ssl.SSLWantReadError:
                pass
    return client.version()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1", "gw.example"])
def test_a_client_that_trusts_the_authority_connects(data: Path, version: ssl.TLSVersion, name: str) -> None:
    identity = Identity.open(data, ["gw.example"])
    assert handshake(identity, name, version) == version.name.replace("_", ".")


def test_a_client_that_expects_another_name_does_not_connect(data: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        handshake(Identity.open(data, ["gw.example"]), "gw2.example", ssl.TLSVersion.TLSv1_3)


def test_the_der_form_is_the_same_certificate_and_is_kept_so(data: Path) -> None:
    identity = Identity.open(data)
    der = ssl.PEM_cert_to_DER_cert(identity.ca_path.read_text())
    assert identity.ca_der_path.read_bytes() == der
    identity.ca_der_path.write_bytes(b"damaged")
    Identity.open(data)
    assert identity.ca_der_path.read_bytes() == der
    identity.ca_der_path.unlink()
    Identity.open(data)
    assert identity.ca_der_path.read_bytes() == der


def test_the_listeners_certificate_is_renewed_when_it_runs_out(data: Path) -> None:
    identity = Identity.open(data, ["gw.example"], NOW)
    authority, listener = identity.ca_path.read_bytes(), identity.certificate_path.read_bytes()
    Identity.open(data, ["gw.example"], NOW + 365 * DAY)
    assert identity.certificate_path.read_bytes() == listener
    renewed = Identity.open(data, ["gw.example"], NOW + 367 * DAY)
    assert renewed.certificate_path.read_bytes() != listener
    assert mode(renewed.key_path) == 0o600
    assert (renewed.node_id, renewed.kid, renewed.ca_path.read_bytes()) == (identity.node_id, identity.kid, authority)


def test_the_listeners_certificate_follows_its_names(data: Path) -> None:
    identity = Identity.open(data, ["gw.example"])
    assert "gw.example" in names(identity)
    first = identity.certificate_path.read_bytes()
    Identity.open(data, ["gw.example"])
    assert identity.certificate_path.read_bytes() == first
    assert "gw2.example" in names(Identity.open(data, ["gw2.example"]))
    assert "gw.example" not in names(identity)


def test_who_only_signs_tokens_leaves_the_names_alone(data: Path) -> None:
    """`gateway token` beside a running node does not know the node's names."""
    identity = Identity.open(data, ["gw.example"])
    Identity.open(data)
    assert "gw.example" in names(identity)


def test_a_renewal_keeps_the_names(data: Path) -> None:
    """Also where whoever only signs tokens finds that it is due."""
    now = time.time()
    for renew in (
        lambda identity: identity.renew_certificate(now),
        lambda identity: Identity.open(data, now=now),
        lambda identity: identity.renew_if_due(now),
    ):
        old = Identity.open(data, ["edge.example"], now - 380 * DAY)
        before = old.certificate_path.read_bytes()
        renew(old)
        assert old.certificate_path.read_bytes() != before
        assert "edge.example" in names(old)
        assert not old.renew_if_due(now)


def test_a_listeners_certificate_that_was_removed_is_issued_again(data: Path) -> None:
    identity = Identity.open(data)
    identity.certificate_path.unlink()
    Identity.open(data)
    assert {"localhost", "127.0.0.1", "::1"} <= names(identity)


def test_the_hosts_own_name_is_in_the_certificate_where_it_can_be(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "edge-7")
    assert "edge-7" in names(Identity.open(data / "1", []))
    monkeypatch.setattr(socket, "gethostname", lambda: "not a name")
    assert names(Identity.open(data / "2", [])) == {"localhost", "127.0.0.1", "::1"}


def test_a_name_that_is_none_is_a_wrong_setting(data: Path) -> None:
    with pytest.raises(ConfigError, match="'a b' is neither a host name nor an address"):
        Identity.open(data, ["a b"])
    assert not (data / "identity").exists()
    Identity.open(data)


# --- damage --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["node-id", "signing-key.pem", "ca-key.pem", "ca.pem", "listener.pem"])
@pytest.mark.parametrize(
    "content", [b"", b"damaged", b"\xff\xfe", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
)
def test_fault_67_a_damaged_file_is_told_and_kept(data: Path, name: str, content: bytes) -> None:
    """Fault 67: empty, cut or foreign content stops the start and stays for whoever looks into it."""
    identity = Identity.open(data)
    (identity.directory / name).write_bytes(content)
    before = {path.name: path.read_bytes() for path in identity.directory.iterdir()}
    with pytest.raises(StorageError) as caught:
        Identity.open(data)
    assert str(identity.directory / name) in caught.value.text
    assert "Restore" in caught.value.text
    assert {path.name: path.read_bytes() for path in identity.directory.iterdir()} == before


@pytest.mark.parametrize("name", ["node-id", "signing-key.pem", "ca-key.pem", "ca.pem"])
def test_fault_67_a_missing_file_is_told_and_not_made_up(data: Path, name: str) -> None:
    """Fault 67: an identity that lost a part is not a first start."""
    identity = Identity.open(data)
    (identity.directory / name).unlink()
    with pytest.raises(StorageError, match=f"{name} cannot be read"):
        Identity.open(data)
    assert not (identity.directory / name).exists()


def test_fault_67_an_empty_identity_directory_is_told(data: Path) -> None:
    (data / "identity").mkdir(parents=True, mode=0o700)
    with pytest.raises(StorageError, match="node-id cannot be read"):
        Identity.open(data)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("signing-key.pem", pem(new_key()), "holds no Ed25519 key"),
        ("signing-key.pem", pem(rsa.generate_private_key(65537, 2048)), "holds a key of another kind"),
        (
            "signing-key.pem",
            Ed25519PrivateKey.generate().private_bytes(
                Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
            ),
            "holds no private key that can be read",
        ),
        ("ca-key.pem", pem(Ed25519PrivateKey.generate()), "holds no EC key"),
        ("ca-key.pem", pem(new_key()), "ca.pem is not the certificate of ca-key.pem"),
    ],
)
def test_fault_67_a_key_that_does_not_belong_there(data: Path, name: str, content: bytes, words: str) -> None:
    identity = Identity.open(data)
    (identity.directory / name).write_bytes(content)
    with pytest.raises(StorageError, match=words):
        Identity.open(data)


def test_fault_67_a_listeners_key_and_certificate_that_do_not_belong_together(data: Path) -> None:
    identity = Identity.open(data)
    text = identity.certificate_path.read_bytes()
    identity.certificate_path.write_bytes(pem(new_key()) + text[text.index(b"-----BEGIN CERTIFICATE") :])
    with pytest.raises(StorageError, match="do not belong together"):
        Identity.open(data)


# --- several processes, crashes ------------------------------------------------------------------------------------

OPEN = "import sys; from pathlib import Path; from gateway.control.identity import Identity\n"


def test_processes_that_start_at_once_agree(data: Path) -> None:
    program = OPEN + (
        "sys.stdin.read(1)\n"
        "identity = Identity.open(Path(sys.argv[1]))\n"
        "print(identity.node_id, identity.kid, hash(identity.certificate_path.read_bytes()))"
    )
    children = [
        subprocess.Popen(
            [sys.executable, "-c", program, data],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONHASHSEED": "0"},
        )
        for _ in range(4)
    ]
    for child in children:
        assert child.stdin is not None
        child.stdin.write("x")
        child.stdin.flush()
    answers = {child.communicate()[0] for child in children}
    assert [child.returncode for child in children] == [0] * 4
    assert len(answers) == 1


def test_a_killed_first_start_leaves_a_whole_identity_or_none(data: Path) -> None:
    """kill -9 while identities are made in a row: each directory is whole, or the next start makes it so."""
    program = OPEN + (
        "number = int(sys.argv[2])\nwhile True:\n    Identity.open(Path(sys.argv[1]) / str(number))\n    number += 1\n"
    )
    for cycle in range(4):
        child = subprocess.Popen([sys.executable, "-c", program, data, str(cycle * 1_000)])
        deadline = time.monotonic() + 60
        while not (data / str(cycle * 1_000 + 3)).exists():
            assert child.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.0007 * (cycle + 1))
        child.send_signal(signal.SIGKILL)
        child.wait()
    directories = sorted(data.iterdir())
    assert len(directories) >= 16
    for directory in directories:
        whole = (directory / "identity").exists()
        before = (directory / "identity" / "node-id").read_text() if whole else None
        identity = Identity.open(directory)
        assert before in (None, identity.node_id + "\n")
        assert handshake(identity, "localhost", ssl.TLSVersion.TLSv1_3) == "TLSv1.3"
        assert not (directory / "identity.new").exists()


def test_what_a_killed_start_left_is_swept_away(data: Path) -> None:
    unfinished = data / "identity.new"
    unfinished.mkdir(parents=True, mode=0o700)
    (unfinished / "signing-key.pem").write_text("half a k")
    identity = Identity.open(data)
    assert not unfinished.exists()
    (identity.directory / ".listener.pem.new").write_text("half a k")
    Identity.open(data, ["gw.example"])
    assert not (identity.directory / ".listener.pem.new").exists()


def test_a_disk_that_takes_no_more_is_told_and_harms_nothing(data: Path) -> None:
    """A write that fails half way: the first start leaves no identity, a renewal leaves the old certificate."""
    program = OPEN + (
        "import resource, signal\n"
        "from gateway.errors import StorageError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "try:\n"
        "    Identity.open(Path(sys.argv[1]), sys.argv[2:])\n"
        "except StorageError as error:\n"
        "    print(error)"
    )

    def full_disk(*names: str) -> str:
        return subprocess.run(
            [sys.executable, "-c", program, data, *names], capture_output=True, text=True, check=True
        ).stdout

    assert "File too large" in full_disk()
    assert not (data / "identity").exists()
    identity = Identity.open(data, ["gw.example"])
    assert "File too large" in full_disk("gw2.example")
    assert Identity.open(data).node_id == identity.node_id
    assert "gw.example" in names(identity)


def test_a_directory_that_cannot_be_used_is_told(data: Path) -> None:
    (data / "identity.lock").mkdir(parents=True, mode=0o700)
    with pytest.raises(StorageError) as caught:
        Identity.open(data)
    assert caught.value.text == (
        f"{data}/identity.lock: Is a directory. "
        f"The data directory {data} must belong to uid {os.geteuid()}, as which this runs, and be writable."
    )
