"""The settings of a running node: what holds, where it came from, and how it changes.

Sources have one order at the start and at run time (``config.loading``). What is set here is kept in ``settings.toml``
in the data directory, which is stronger than the settings file and weaker than the environment: a setting that a
stronger source holds cannot be changed here, so no value flips at the next start. A change is validated whole, then
written, then swapped in; on any error everything stays as it was.

A running node takes new values of reloadable settings only; a changed file that says more waits for a restart.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

from pydantic import BaseModel

from gateway.config.declarations import Config, Setting, settings
from gateway.config.loading import Layer, Sources, config_of, runtime_file, unknown_setting, value_at
from gateway.errors import ConfigError

_HEAD = "Written by the admin API. The order of sources is in docs/settings.md."
#: Sources that are stronger than what is set at run time.
_STRONGER = ("dev", "cli", "env", "secrets")


class Locked(ConfigError):
    """A stronger source holds a setting."""

    reason = "config_locked"

    def __init__(self, name: str, source: str, where: str) -> None:
        super().__init__(f"{where} sets {name}")
        self.name = name
        self.source = source


class NotReloadable(ConfigError):
    """A running node cannot take this setting."""

    reason = "restart_needed"

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is read once, at the start")
        self.name = name


@dataclass(frozen=True, slots=True)
class Effective:
    """One setting as it holds. ``value`` and ``default`` are what JSON can say."""

    setting: Setting
    value: Any
    default: Any
    source: str
    locked: bool


@dataclass(frozen=True, slots=True)
class Change:
    """A change that would hold: ``config`` after it, the dotted names that change, and those that need a restart."""

    config: Config
    layers: Sequence[Layer]
    runtime: Mapping[str, object]
    changed: tuple[str, ...]
    restart_needed: tuple[str, ...]

    @property
    def text(self) -> str:
        """What the file in the data directory would hold."""
        return _toml(self.runtime)


class _Layered(Protocol):
    def layers(self, runtime: Mapping[str, object] | None = None) -> list[Layer]: ...


class _Fixed:
    """A source of settings that are known already."""

    def __init__(self, config: Config) -> None:
        self._config = config

    def layers(self, runtime: Mapping[str, object] | None = None) -> list[Layer]:
        return [Layer("cli", "the program", self._config.model_dump()), Layer("api", "", {})]


class LiveSettings:
    """``config`` is what holds. One loop owns it."""

    def __init__(self, sources: Sources | _Layered) -> None:
        self._sources = sources
        self._declared = {setting.dotted: setting for setting in settings()}
        self._layers = sources.layers()
        self.config = config_of(self._layers)
        self._defaults = Config()

    @classmethod
    def fixed(cls, config: Config) -> Self:
        """Settings that a program made: all of them are locked."""
        return cls(_Fixed(config))

    @property
    def file(self) -> Path:
        """Where what is set at run time is kept."""
        return runtime_file(self._layers)

    @property
    def runtime(self) -> dict[str, object]:
        """What is set at run time, by dotted name."""
        (layer,) = (layer for layer in self._layers if layer.source == "api")
        return dict(_flat(layer.values))

    def sets(self, name: str) -> bool:
        """Whether any source says something of a setting."""
        return self._source(self._declared[name], self._layers) is not None

    def effective(self) -> Iterator[Effective]:
        """Every setting as it holds, in the order of declaration."""
        for setting in self._declared.values():
            source = self._source(setting, self._layers)
            yield Effective(
                setting,
                plain(_get(self.config, setting.path)),
                plain(_get(self._defaults, setting.path)),
                source.source if source is not None else "default",
                source is not None and source.source in _STRONGER,
            )

    def plan(self, changes: Mapping[str, object]) -> Change:
        """What these changes (dotted name: value, None to unset) would make. Nothing is changed.

        Raises:
            Locked, NotReloadable: a setting cannot be changed here.
            ConfigError: a name is no setting, or a value is wrong.
        """
        runtime = self.runtime
        for name, value in changes.items():
            setting = self._declared.get(name)
            if setting is None:
                raise unknown_setting(name, "the change", name, {known: known for known in self._declared})
            self._check(setting)
            if value is None:
                runtime.pop(name, None)
            else:
                runtime[name] = value
        return self._planned(runtime)

    def plan_text(self, text: str) -> Change:
        """What it would make if the file in the data directory held ``text`` (TOML). Raises as ``plan`` does."""
        try:
            document = tomllib.loads(text)
        except (tomllib.TOMLDecodeError, RecursionError) as error:
            raise ConfigError(f"this is no TOML: {error}") from None
        runtime = dict(_flat(document))
        for name in {*runtime, *self.runtime}:
            setting = self._declared.get(name)
            if setting is not None and runtime.get(name) != self.runtime.get(name):
                self._check(setting)
        return self._planned(runtime)

    def reread(self) -> Change:
        """What the sources say now. Raises ConfigError, with everything as it was."""
        layers = self._sources.layers()
        return self._difference(layers)

    def commit(self, change: Change) -> None:
        """Write what is set at run time, and let the change hold. Raises ConfigError where it cannot be written."""
        if dict(change.runtime) != self.runtime:
            _write(self.file, change.text)
        self._layers = list(change.layers)
        self.config = change.config

    def _planned(self, runtime: Mapping[str, object]) -> Change:
        return self._difference(self._sources.layers(runtime))

    def _difference(self, layers: Sequence[Layer]) -> Change:
        wanted = config_of(layers)
        changed: list[str] = []
        waiting: list[str] = []
        values: dict[str, Any] = {}
        for name, setting in self._declared.items():
            old, new = _get(self.config, setting.path), _get(wanted, setting.path)
            if old != new:
                (changed if setting.reloadable else waiting).append(name)
            _put(values, setting.path, new if setting.reloadable else old)
        (api,) = (layer for layer in layers if layer.source == "api")
        return Change(Config(**values), layers, dict(_flat(api.values)), tuple(changed), tuple(waiting))

    def _check(self, setting: Setting) -> None:
        source = self._source(setting, self._layers)
        if source is not None and source.source in _STRONGER:
            raise Locked(setting.dotted, source.source, _named(setting, source))
        if not setting.reloadable:
            raise NotReloadable(setting.dotted)

    @staticmethod
    def _source(setting: Setting, layers: Sequence[Layer]) -> Layer | None:
        for layer in layers:
            if value_at(layer.values, setting.path) is not ...:
                return layer
        return None


def _named(setting: Setting, layer: Layer) -> str:
    return setting.variable if layer.source == "env" else layer.where


def plain(value: Any) -> Any:
    """A setting's value as JSON says it."""
    if isinstance(value, tuple):
        return list(value)
    return str(value) if isinstance(value, Path) else value


def _get(config: BaseModel, path: Sequence[str]) -> Any:
    value: Any = config
    for part in path:
        value = getattr(value, part)
    return value


def _put(values: dict[str, Any], path: Sequence[str], value: Any) -> None:
    *sections, name = path
    for section in sections:
        values = values.setdefault(section, {})
    values[name] = value


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _toml(runtime: Mapping[str, object]) -> str:
    # A megabyte that only a node whose settings are changed has to hold.
    import tomlkit

    values: dict[str, Any] = {}
    for name in sorted(runtime):
        _put(values, name.split("."), plain(runtime[name]))
    document = tomlkit.document()
    document.add(tomlkit.comment(_HEAD))
    document.update(values)
    return tomlkit.dumps(document)


def _write(file: Path, text: str) -> None:
    """Put the whole file there in one step that outlives a power cut, or leave the old one."""
    fresh = file.with_name(f".{file.name}.new")
    try:
        fresh.unlink(missing_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(descriptor)
        fresh.rename(file)
        directory = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise ConfigError(
            f"{file}: {error.strerror or error}; the settings stay as they were", reason="config_not_written"
        ) from error
