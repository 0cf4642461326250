"""What a node says when it has made its administrator (fault 100, complaints 2 and 4)."""

from __future__ import annotations

import stat
from pathlib import Path

from gateway.config import load
from gateway.control import first_run


def test_says_who_reaches_what_and_the_line_that_changes_it(tmp_path: Path) -> None:
    config = load(
        None, {}, {"node.data": tmp_path, "listen.tcp": "10.1.2.3:7879", "telemetry.listen": "", "tls.names": ["gw"]}
    )
    addresses = {"admin": "http://127.0.0.1:9878", "websocket": "wss://0.0.0.0:7878/rsocket"}
    text = first_run.announce(config, addresses, "admin", "correct horse")
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "password correct horse (to be changed at the first login)" in lines
    assert "admin API http://127.0.0.1:9878" in lines
    assert '7878 RSocket over WebSocket everybody this machine alone: listen.websocket = "127.0.0.1:7878"' in lines
    assert '7879 RSocket over TCP who reaches 10.1.2.3 this machine alone: listen.tcp = "127.0.0.1:7879"' in lines
    assert '9878 admin API this machine others too: admin.listen = "0.0.0.0:9878"' in lines
    assert "- metrics, readiness nobody: telemetry.listen is empty" in lines
    assert f"gateway device add NAME --data {tmp_path}" in lines
    file = tmp_path / first_run.NAME
    assert file.read_text() == text
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    first_run.done(tmp_path)
    assert not file.exists()
    first_run.done(tmp_path)


def test_a_disk_that_takes_no_file_does_not_keep_it_back(tmp_path: Path) -> None:
    config = load(None, {}, {"node.data": tmp_path / "absent"})
    assert "secret" in first_run.announce(config, {}, "admin", "secret")
