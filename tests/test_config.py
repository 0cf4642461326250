"""Settings: sources and their order, names, values, and the page that lists them."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pydantic
import pytest

from gateway.config import Config, KindLimits, address, advertised_url, is_loopback, load, settings
from gateway.errors import ConfigError
from gateway.policy.limits import LIMIT_NAMES, profile_for
from gateway.policy.principal import Kind


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    directory = tmp_path / "secrets"
    directory.mkdir()
    return directory


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "gateway.toml"


def loaded(environ: dict[str, str] | None = None, **arguments: Any) -> Config:
    return load(arguments.pop("file", None), environ or {}, **{"secrets": Path("/nonexistent"), **arguments})


def complaint(*args: Any, **arguments: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        loaded(*args, **arguments)
    return caught.value.text


def test_without_sources_every_setting_has_its_default() -> None:
    config = loaded()
    assert config == Config()
    assert config.listen.websocket == "0.0.0.0:7878"
    assert config.listen.tcp == "0.0.0.0:7879"
    assert config.admin.listen == "127.0.0.1:9878"
    assert config.telemetry.listen == "127.0.0.1:9879"
    assert config.tls.enabled
    assert config.auth.mode == "token"
    assert not config.limits.loopback
    assert config.limits.device.overrides() == {}
    assert config.node.name


def test_defaults_are_those_of_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY__LOG__LEVEL", "debug")
    assert Config().log.level == "info"
    assert load(secrets=Path("/nonexistent")).log.level == "debug"


@pytest.mark.parametrize(
    ("variable", "value", "path", "expected"),
    [
        ("GATEWAY__LIMITS__LOOPBACK", "true", "limits.loopback", True),
        ("GATEWAY__LISTEN__WEBSOCKET", "127.0.0.1:0", "listen.websocket", "127.0.0.1:0"),
        ("GATEWAY__LISTEN__TCP", "[::1]:7879", "listen.tcp", "[::1]:7879"),
        ("GATEWAY__LISTEN__TCP", "", "listen.tcp", ""),
        ("GATEWAY__ADMIN__LISTEN", "127.0.0.1:1", "admin.listen", "127.0.0.1:1"),
        ("GATEWAY__TELEMETRY__LISTEN", "127.0.0.1:2", "telemetry.listen", "127.0.0.1:2"),
        ("GATEWAY__LIMITS__DEVICE__MAX_STREAMS", "7", "limits.device.max_streams", 7),
        ("GATEWAY__LIMITS__SERVICE__WRITE_DEADLINE_S", "2.5", "limits.service.write_deadline_s", 2.5),
        (
            "GATEWAY__LISTEN__ORIGINS",
            "https://a.example, https://b.example",
            "listen.origins",
            ("https://a.example", "https://b.example"),
        ),
        ("GATEWAY__TLS__NAMES", "gw.local", "tls.names", ("gw.local",)),
        ("GATEWAY__TLS__CERTIFICATE", "", "tls.certificate", None),
        ("GATEWAY__NODE__DATA", "/data", "node.data", Path("/data")),
        ("gateway__node__name", "n1", "node.name", "n1"),
    ],
)
def test_a_variable_of_the_environment_sets_a_value(variable: str, value: str, path: str, expected: object) -> None:
    found: Any = loaded({variable: value, "HOME": "/", "GATEWAY_URL": "ws://x"})
    for part in path.split("."):
        found = getattr(found, part)
    assert found == expected


def test_the_stronger_source_wins(file: Path, secrets: Path) -> None:
    file.write_text('[node]\nname = "file"\n[listen]\npath = "/file"\nbacklog = 5\n')
    (secrets / "GATEWAY__node__name").write_text("secret\n")
    (secrets / "GATEWAY__listen__path").write_text("/secret\n")
    (secrets / "unrelated").write_text("x")
    environ = {"GATEWAY__NODE__NAME": "environment"}

    assert loaded(file=file).node.name == "file"
    assert loaded(file=file, secrets=secrets).node.name == "secret"
    assert loaded(environ, file=file, secrets=secrets).node.name == "environment"
    config = loaded(environ, file=file, secrets=secrets, overrides={"node.name": "command line"})
    assert config.node.name == "command line"
    assert (config.listen.path, config.listen.backlog) == ("/secret", 5)


def test_dev_is_plain_text_on_loopback() -> None:
    config = loaded(dev=True)
    assert not config.tls.enabled
    assert (config.listen.websocket, config.listen.tcp) == ("127.0.0.1:7878", "127.0.0.1:7879")
    config = loaded({"GATEWAY__LISTEN__TCP": "127.0.0.1:5"}, dev=True)
    assert (config.listen.websocket, config.listen.tcp) == ("127.0.0.1:7878", "127.0.0.1:5")
    assert config.model_copy(update={"tls": Config().tls, "listen": Config().listen}) == Config()


@pytest.mark.parametrize("text", ["0.0.0.0:7878", "192.0.2.1:7878", "gw.example:7878", "[::]:7878"])
def test_fault_100_plain_text_stays_on_loopback(text: str) -> None:
    """Fault 100: no listener in the clear where others reach it, unless somebody says so in as many words."""
    environ = {"GATEWAY__LISTEN__WEBSOCKET": text}
    assert complaint(environ, dev=True).startswith(f"listen.websocket = {text!r} would carry tokens")
    assert loaded(environ | {"GATEWAY__TLS__INSECURE": "true"}, dev=True).listen.websocket == text
    assert loaded(environ).tls.enabled


def test_an_unknown_variable_is_an_error_with_the_nearest_name() -> None:
    assert complaint({"GATEWAY__LISTEN__WEBSOKET": "x"}) == (
        "GATEWAY__LISTEN__WEBSOKET (in the environment) is not a setting; did you mean GATEWAY__LISTEN__WEBSOCKET?"
    )
    assert complaint({"GATEWAY__LIMIT__DEVICE__MAX_STREAMS": "1"}).endswith(
        "did you mean GATEWAY__LIMITS__DEVICE__MAX_STREAMS?"
    )
    assert complaint({"GATEWAY__": "x"}) == "GATEWAY__ (in the environment) is not a setting"


def test_a_section_is_not_a_setting() -> None:
    assert "GATEWAY__LISTEN (in the environment) is not a setting" in complaint({"GATEWAY__LISTEN": "{}"})
    assert "is not a setting" in complaint({"GATEWAY__LISTEN__TCP__PORT": "1"})


def test_an_unknown_name_in_the_file_is_an_error_with_the_nearest_name(file: Path) -> None:
    file.write_text("[limits.device]\nmax_stream = 3\n")
    assert complaint(file=file) == (
        f"limits.device.max_stream (in {file}) is not a setting; did you mean limits.device.max_streams?"
    )
    file.write_text("[zzz]\nx = 3\n")
    assert complaint(file=file) == f"zzz (in {file}) is not a setting"


def test_an_unknown_override_or_secret_is_an_error(secrets: Path) -> None:
    assert complaint(overrides={"node.dat": "x"}) == (
        "node.dat (in the command line) is not a setting; did you mean node.data?"
    )
    (secrets / "GATEWAY__NODE__NAMES").write_text("x")
    assert complaint(secrets=secrets).startswith(f"GATEWAY__NODE__NAMES (in {secrets}) is not a setting")


def test_every_wrong_value_is_told_with_its_source(file: Path) -> None:
    file.write_text('[limits]\nsetup_timeout_s = -1\n[log]\nlevel = "loud"\n[auth]\nmode = "off"\n')
    text = complaint({"GATEWAY__LOG__LEVEL": "quiet", "GATEWAY__LIMITS__DEVICE__MAX_STREAMS": "many"}, file=file)
    lines = text.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("limits.setup_timeout_s: ")
    assert lines[0].endswith(f"not '-1' (in {file})")
    assert lines[1].startswith("limits.device.max_streams: ")
    assert lines[1].endswith("not 'many' (in the environment)")
    assert lines[2].startswith("log.level: ")
    assert lines[2].endswith("not 'quiet' (in the environment)")


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        (
            {"GATEWAY__TLS__KEY": "k.pem"},
            "tls: certificate and key are set together or not at all (in the environment)",
        ),
        ({"GATEWAY__LIMITS__KEEPALIVE_MIN_MS": "3600001"}, "limits: keepalive_min_ms is above lifetime_max_ms"),
        ({"GATEWAY__LISTEN__PATH": "rsocket"}, "listen.path: must begin with /"),
        ({"GATEWAY__LISTEN__PATH": "/a?b"}, "listen.path: must begin with /"),
        ({"GATEWAY__LISTEN__TCP": "7879"}, "listen.tcp: '7879' is not host:port"),
        ({"GATEWAY__NODE__NAME": ""}, "node.name: "),
        ({"GATEWAY__AUTH__MAX_LIFETIME_S": "1"}, "auth.max_lifetime_s: "),
        ({"GATEWAY__LIMITS__DEVICE__MAX_FRAME_BYTES": "16777216"}, "limits.device.max_frame_bytes: "),
    ],
)
def test_a_wrong_value_is_an_error_that_names_it(environ: dict[str, str], words: str) -> None:
    assert words in complaint(environ)


def test_labels_of_the_node() -> None:
    assert loaded({"GATEWAY__NODE__LABELS": "site=7, region=eu"}).node.labels == ("site=7", "region=eu")


@pytest.mark.parametrize(
    "label", ["site", "=7", "site=", "Site=7", "a=1,a=2", "x" * 128 + "=1", "io.rsocket.broker.X=1"]
)
def test_what_is_no_label(label: str) -> None:
    assert complaint({"GATEWAY__NODE__LABELS": label}).startswith("node.labels: ")


def test_a_wrong_item_of_a_list(file: Path) -> None:
    file.write_text('[listen]\norigins = ["https://a.example", 7]\n')
    assert complaint(file=file).startswith("listen.origins: ")


def test_a_section_that_is_no_table(file: Path) -> None:
    file.write_text('listen = "x"\n')
    assert complaint(file=file).startswith("listen: ")


def test_a_file_that_cannot_be_read(file: Path, secrets: Path) -> None:
    assert complaint(file=file) == f"settings file {file} does not exist"
    file.write_text("[listen\n")
    assert complaint(file=file).startswith(f"settings file {file} cannot be read: Expected ']'")
    file.write_bytes(b"\xff")
    assert complaint(file=file).startswith(f"settings file {file} cannot be read: ")
    (secrets / "GATEWAY__NODE__NAME").write_bytes(b"\xff")
    assert complaint(secrets=secrets).startswith(f"secrets in {secrets} cannot be read: ")


def test_settings_are_frozen() -> None:
    config = Config()
    with pytest.raises(pydantic.ValidationError):
        config.log.level = "debug"
    with pytest.raises(pydantic.ValidationError):
        config.log = Config().log


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:7878", ("127.0.0.1", 7878)),
        ("localhost:0", ("localhost", 0)),
        ("[::1]:7878", ("::1", 7878)),
        ("gw.example:65535", ("gw.example", 65535)),
    ],
)
def test_an_address_is_host_and_port(text: str, expected: tuple[str, int]) -> None:
    assert address(text) == expected


@pytest.mark.parametrize(
    "text", ["", "7878", ":7878", "host", "host:", "host:65536", "host:-1", "host:x", "::1:7878", "host:²"]
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ConfigError):
        address(text)


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("gw", False)],
)
def test_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_every_limit_can_be_set_for_every_kind() -> None:
    assert set(KindLimits.model_fields) == LIMIT_NAMES
    names = {setting.dotted for setting in settings()}
    assert {f"limits.{kind}.max_streams" for kind in Kind} <= names


@pytest.mark.parametrize("kind", list(Kind))
def test_every_figure_of_a_profile_is_within_what_may_be_set(kind: Kind) -> None:
    figures = {name: getattr(profile_for(kind), name) for name in LIMIT_NAMES}
    assert KindLimits(**figures).overrides() == figures
    assert profile_for(kind, KindLimits(max_streams=3).overrides()).max_streams == 3


def test_every_setting_is_described() -> None:
    every = list(settings())
    assert len(every) > 100
    assert all(setting.help.endswith(".") for setting in every)
    assert any(setting.reloadable for setting in every)
    assert not all(setting.reloadable for setting in every)


def test_the_page_of_settings_is_current() -> None:
    tool = Path(__file__).parents[1] / "tools" / "settings_doc.py"
    check = subprocess.run([sys.executable, tool, "--check"], capture_output=True, text=True, check=False)
    assert check.returncode == 0, check.stderr


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({"node.advertised_url": "wss://gw.example.org/rsocket"}, "wss://gw.example.org/rsocket"),
        ({"listen.websocket": "0.0.0.0:7000"}, f"wss://{platform.node()}:7000/rsocket"),
        ({"listen.websocket": "[::1]:7000", "listen.path": "/x"}, "wss://[::1]:7000/x"),
        ({"listen.websocket": "10.0.0.1:0"}, "wss://10.0.0.1:4711/rsocket"),
        ({"listen.websocket": ""}, ""),
    ],
)
def test_advertised_url(overrides: dict[str, object], expected: str) -> None:
    """Complaint 9: what devices are told is what the settings say; the node's own name, never a wildcard, otherwise."""
    assert advertised_url(load(None, {}, overrides), 4711) == expected


def test_an_advertised_url_is_one_of_a_gateway() -> None:
    with pytest.raises(ConfigError, match="no address of a gateway"):
        load(None, {}, {"node.advertised_url": "https://gw.example.org"})
