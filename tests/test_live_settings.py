"""The settings of a running node: sources at run time, what is set there, and what is refused."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from gateway.config import Config, LiveSettings, Locked, NotReloadable, Sources, load
from gateway.errors import ConfigError


class Place:
    """A data directory, a settings file, and the settings of a node that has them."""

    def __init__(self, directory: Path) -> None:
        self.data = directory / "data"
        self.data.mkdir()
        self.file = directory / "gateway.toml"
        self.file.write_text('[limits]\ndrain_grace_s = 7\n[log]\nlevel = "warning"\n')
        self.environ: dict[str, str] = {}

    def sources(self) -> Sources:
        return Sources(self.file, self.environ, {"node.data": self.data}, secrets=Path("/nonexistent"))

    def live(self) -> LiveSettings:
        return LiveSettings(self.sources())

    def restarted(self) -> Config:
        return load(self.file, self.environ, {"node.data": self.data}, secrets=Path("/nonexistent"))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def source_of(live: LiveSettings, name: str) -> tuple[object, str, bool]:
    (found,) = (each for each in live.effective() if each.setting.dotted == name)
    return found.value, found.source, found.locked


def test_each_value_says_where_it_came_from(place: Place) -> None:
    place.environ["GATEWAY__LIMITS__SETUP_TIMEOUT_S"] = "3"
    live = place.live()
    assert source_of(live, "limits.drain_grace_s") == (7, "file", False)
    assert source_of(live, "limits.setup_timeout_s") == (3, "env", True)
    assert source_of(live, "node.data") == (str(place.data), "cli", True)
    assert source_of(live, "auth.audience") == ("gateway", "default", False)


def test_a_change_holds_now_and_after_a_restart(place: Place) -> None:
    live = place.live()
    change = live.plan({"limits.drain_grace_s": 2.5, "listen.origins": ["https://a.example"]})
    assert live.config.limits.drain_grace_s == 7
    assert change.changed == ("listen.origins", "limits.drain_grace_s")
    live.commit(change)
    assert live.config.limits.drain_grace_s == 2.5
    assert source_of(live, "limits.drain_grace_s") == (2.5, "api", False)
    assert place.restarted().limits.drain_grace_s == 2.5
    assert place.restarted().listen.origins == ("https://a.example",)
    assert live.file.stat().st_mode & 0o777 == 0o600


def test_null_takes_back_what_was_set(place: Place) -> None:
    live = place.live()
    live.commit(live.plan({"limits.drain_grace_s": 2}))
    live.commit(live.plan({"limits.drain_grace_s": None}))
    assert live.config.limits.drain_grace_s == 7
    assert tomllib.loads(live.file.read_text()) == {}


def test_what_the_environment_holds_is_locked(place: Place) -> None:
    place.environ["GATEWAY__LIMITS__DRAIN_GRACE_S"] = "4"
    live = place.live()
    with pytest.raises(Locked, match=r"GATEWAY__LIMITS__DRAIN_GRACE_S sets limits\.drain_grace_s") as caught:
        live.plan({"limits.drain_grace_s": 2})
    assert caught.value.source == "env"


def test_what_is_read_once_cannot_be_changed(place: Place) -> None:
    with pytest.raises(NotReloadable, match=r"listen\.backlog is read once"):
        place.live().plan({"listen.backlog": 5})


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"limits.drain_grace": 5}, r"did you mean limits\.drain_grace_s"),
        ({"limits.drain_grace_s": -1}, r"limits\.drain_grace_s: .* not '-1'"),
        ({"limits.drain_grace_s": {"a": 1}}, r"limits\.drain_grace_s"),
        ({"limits": {"listen": {}}}, "limits .* is not a setting"),
        ({"log.level": "loud"}, r"log\.level"),
        ({"limits.keepalive_min_ms": 5_000_000}, "keepalive_min_ms is above lifetime_max_ms"),
    ],
)
def test_a_wrong_change_changes_nothing(place: Place, changes: dict[str, object], why: str) -> None:
    """Fault 97."""
    live = place.live()
    with pytest.raises(ConfigError, match=why):
        live.plan(changes)
    assert not live.file.exists()
    assert live.config == place.restarted()


def test_rereading_takes_what_a_running_node_can(place: Place) -> None:
    live = place.live()
    place.file.write_text("[limits]\ndrain_grace_s = 9\n[listen]\nbacklog = 9\n")
    change = live.reread()
    assert change.changed == ("limits.drain_grace_s", "log.level")
    assert change.restart_needed == ("listen.backlog",)
    live.commit(change)
    assert live.config.limits.drain_grace_s == 9
    assert live.config.listen.backlog == 1024


def test_a_file_that_is_wrong_keeps_what_holds(place: Place) -> None:
    """Fault 97, fault 67."""
    live = place.live()
    for text in ("[limits", "[limits]\ndrain_grace_s = -1", "[limit]\na = 1"):
        place.file.write_text(text)
        with pytest.raises(ConfigError):
            live.reread()
    assert live.config.limits.drain_grace_s == 7


def test_a_whole_text_replaces_what_was_set(place: Place) -> None:
    live = place.live()
    live.commit(live.plan({"limits.drain_grace_s": 2, "log.level": "debug"}))
    text = live.plan({}).text
    live.commit(live.plan({"limits.drain_grace_s": 3, "log.level": None}))
    change = live.plan_text(text)
    assert set(change.changed) == {"limits.drain_grace_s", "log.level"}
    live.commit(change)
    assert live.config.limits.drain_grace_s == 2
    assert live.config.log.level == "debug"
    with pytest.raises(ConfigError, match="no TOML"):
        live.plan_text("[")


def test_a_change_that_cannot_be_written_does_not_hold(place: Place) -> None:
    live = place.live()
    change = live.plan({"limits.drain_grace_s": 2})
    (place.data / ".settings.toml.new").mkdir()
    with pytest.raises(ConfigError, match=r"settings\.toml: .*; the settings stay"):
        live.commit(change)
    assert live.config.limits.drain_grace_s == 7


def test_a_damaged_file_of_the_api_stops_the_start(place: Place) -> None:
    """Fault 67: never the defaults in silence."""
    (place.data / "settings.toml").write_text("[limits")
    with pytest.raises(ConfigError, match=r"settings\.toml cannot be read"):
        place.live()
