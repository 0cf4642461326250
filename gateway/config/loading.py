"""Where settings come from.

Strongest first: overrides of the command line, ``GATEWAY__SECTION__KEY`` in the environment, a file of that name in
``/run/secrets``, what the admin API has set (``settings.toml`` in the data directory), the TOML file, the default. The
order is the same at the start and at run time. A name that is no setting is an error in each of them, with the nearest
real name.

``--dev`` (``load(dev=True)``) turns TLS off and moves the listeners' default addresses to loopback; nothing else
differs.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_settings import EnvSettingsSource, TomlConfigSettingsSource

from gateway.config.declarations import DELIMITER, ENVIRONMENT_PREFIX, Config, Setting, settings
from gateway.errors import ConfigError

SECRETS_DIRECTORY = Path("/run/secrets")
RUNTIME_FILE = "settings.toml"

_MAX_SHOWN_CHARACTERS = 80


@dataclass(frozen=True, slots=True)
class Layer:
    """What one source says. `source` is a word for programs, `where` is what a person calls it."""

    source: str
    where: str
    values: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Sources:
    """Where settings are read from. ``overrides`` are dotted names: ``{"node.data": path}``."""

    file: Path | None = None
    environ: Mapping[str, str] | None = None
    overrides: Mapping[str, object] = field(default_factory=dict)
    dev: bool = False
    secrets: Path = SECRETS_DIRECTORY

    def layers(self, runtime: Mapping[str, object] | None = None) -> list[Layer]:
        """What each source says now, strongest first. ``runtime`` stands for what the data directory holds.

        Raises:
            ConfigError: a source cannot be read, or names no setting.
        """
        declared = {setting.path: setting for setting in settings()}
        environ = os.environ if self.environ is None else self.environ
        layers = [
            Layer("cli", "the command line", _from_dotted(self.overrides, "the command line", declared)),
            Layer("env", "the environment", _from_variables(environ, "the environment", declared)),
            Layer(
                "secrets",
                str(self.secrets),
                _from_variables(_secret_files(self.secrets), str(self.secrets), declared),
            ),
            Layer("file", str(self.file), _from_toml(self.file, declared)),
        ]
        if self.dev:
            weakest = {
                "listen": {
                    setting.path[1]: setting.dev
                    for setting in declared.values()
                    if setting.path[0] == "listen" and setting.dev
                }
            }
            strongest = Layer("dev", "--dev", {"tls": {"enabled": False}})
            layers = [strongest, *layers, Layer("default", "--dev", weakest)]
        file = runtime_file(layers)
        if runtime is None:
            values = _from_toml(file, declared) if _is_file(file) else {}
        else:
            values = _from_dotted(runtime, "the change", declared)
        layers.insert([layer.source for layer in layers].index("file"), Layer("api", str(file), values))
        return layers


def load(
    file: Path | None = None,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, object] | None = None,
    *,
    dev: bool = False,
    secrets: Path = SECRETS_DIRECTORY,
) -> Config:
    """The settings from all their sources. ``overrides`` are dotted names: ``{"node.data": path}``.

    Raises:
        ConfigError: a source cannot be read, names no setting, or a value is wrong. Every wrong value is named, with
            where it came from.
    """
    return config_of(Sources(file, environ, overrides or {}, dev, secrets).layers())


def config_of(layers: Sequence[Layer]) -> Config:
    """The settings that the layers make together. Raises ConfigError as `load` does."""
    try:
        return Config(**merged_values(layers))
    except ValidationError as error:
        problems = error.errors(include_url=False)
        raise ConfigError("\n".join(_explained(problem, layers) for problem in problems)) from None


def merged_values(layers: Sequence[Layer]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for layer in reversed(layers):
        values = _merged(values, layer.values)
    return values


def runtime_file(layers: Sequence[Layer]) -> Path:
    """Where what the admin API sets is kept."""
    data = merged_values(layers).get("node", {}).get("data") or Config().node.data
    return Path(str(data)) / RUNTIME_FILE


def value_at(values: Mapping[str, Any], path: Sequence[str]) -> Any:
    """What nested tables say at a path; ``...`` when they say nothing."""
    found: Any = values
    for part in path:
        found = found.get(part, ...) if isinstance(found, Mapping) else ...
    return found


def _is_file(file: Path) -> bool:
    try:
        return file.is_file()
    except OSError:
        # A data directory that cannot be entered is told of by whoever needs what is in it.
        return False


class _Variables(EnvSettingsSource):
    """The library's reading of nested environment variables, from any mapping."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables
        super().__init__(Config, case_sensitive=False, env_prefix=ENVIRONMENT_PREFIX, env_nested_delimiter=DELIMITER)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return {name.lower(): value for name, value in self._variables.items()}


def _from_variables(
    variables: Mapping[str, str], source: str, declared: Mapping[tuple[str, ...], Setting]
) -> dict[str, Any]:
    ours = {name: value for name, value in variables.items() if name.upper().startswith(ENVIRONMENT_PREFIX)}
    for name in ours:
        path = tuple(name[len(ENVIRONMENT_PREFIX) :].lower().split(DELIMITER))
        if path not in declared:
            known = {".".join(known): setting.variable for known, setting in declared.items()}
            raise unknown_setting(name, source, ".".join(path), known)
    return _Variables(ours)()


def _secret_files(directory: Path) -> dict[str, str]:
    try:
        files = [file for file in sorted(directory.iterdir()) if file.name.upper().startswith(ENVIRONMENT_PREFIX)]
        return {file.name: file.read_text().strip() for file in files}
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"secrets in {directory} cannot be read: {error}") from error


def _from_toml(file: Path | None, declared: Mapping[tuple[str, ...], Setting]) -> dict[str, Any]:
    if file is None:
        return {}
    if not file.is_file():
        raise ConfigError(f"settings file {file} does not exist")
    try:
        values = TomlConfigSettingsSource(Config, file)()
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"settings file {file} cannot be read: {error}") from error
    _check_names(values, str(file), declared)
    return values


def _from_dotted(
    overrides: Mapping[str, object], source: str, declared: Mapping[tuple[str, ...], Setting]
) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for dotted, value in overrides.items():
        *sections, name = dotted.split(".")
        inner: dict[str, Any] = {name: value}
        for section in reversed(sections):
            inner = {section: inner}
        values = _merged(values, inner)
    _check_names(values, source, declared)
    return values


def _check_names(
    values: Mapping[str, Any], source: str, declared: Mapping[tuple[str, ...], Setting], path: tuple[str, ...] = ()
) -> None:
    for name, value in values.items():
        here = (*path, name)
        is_section = any(other[: len(here)] == here and len(other) > len(here) for other in declared)
        if is_section and isinstance(value, Mapping):
            _check_names(value, source, declared, here)
        elif here not in declared and not is_section:
            dotted = ".".join(here)
            names = {setting.dotted: setting.dotted for setting in declared.values()}
            raise unknown_setting(dotted, source, dotted, names)


def unknown_setting(name: str, source: str, dotted: str, known: Mapping[str, str]) -> ConfigError:
    """The error that a name is no setting, with the nearest one; ``known`` maps dotted names to what to show."""
    near = get_close_matches(dotted, known, n=1)
    hint = f"; did you mean {known[near[0]]}?" if near else ""
    return ConfigError(f"{name} (in {source}) is not a setting{hint}")


def _merged(weaker: Mapping[str, Any], stronger: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(weaker)
    for name, value in stronger.items():
        below = result.get(name)
        result[name] = _merged(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return result


def _explained(problem: Mapping[str, Any], layers: Sequence[Layer]) -> str:
    """One line a wrong value: which setting, what is wrong, what it is, where it came from."""
    path = tuple(str(part) for part in problem["loc"])
    message = str(problem["msg"]).removeprefix("Value error, ")
    while path:
        for layer in layers:
            value = value_at(layer.values, path)
            if value is not ...:
                shown = "" if isinstance(value, Mapping) else f", not {str(value)[:_MAX_SHOWN_CHARACTERS]!r}"
                return f"{'.'.join(path)}: {message}{shown} (in {layer.where})"
        path = path[:-1]
    return message
