"""Where settings come from.

Strongest first: overrides of the command line, ``GATEWAY__SECTION__KEY`` in the environment, a file of that name in
``/run/secrets``, the TOML file, the default. A name that is no setting is an error in each of them, with the nearest
real name.

``--dev`` (``load(dev=True)``) turns TLS off and moves the listeners' default addresses to loopback; nothing else
differs.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_settings import EnvSettingsSource, TomlConfigSettingsSource

from gateway.config.declarations import DELIMITER, ENVIRONMENT_PREFIX, Config, Setting, settings
from gateway.errors import ConfigError

SECRETS_DIRECTORY = Path("/run/secrets")

_MAX_SHOWN_CHARACTERS = 80


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
    declared = {setting.path: setting for setting in settings()}
    layers = [
        ("the command line", _from_dotted(overrides or {}, declared)),
        ("the environment", _from_variables(os.environ if environ is None else environ, "the environment", declared)),
        (str(secrets), _from_variables(_secret_files(secrets), str(secrets), declared)),
        (str(file), _from_toml(file, declared)),
    ]
    if dev:
        strongest: dict[str, Any] = {"tls": {"enabled": False}}
        weakest: dict[str, Any] = {
            "listen": {
                setting.path[1]: setting.dev
                for setting in declared.values()
                if setting.path[0] == "listen" and setting.dev
            }
        }
        layers = [("--dev", strongest), *layers, ("--dev", weakest)]
    values: dict[str, Any] = {}
    for _, layer in reversed(layers):
        values = _merged(values, layer)
    try:
        return Config(**values)
    except ValidationError as error:
        lines = (_explained(problem, layers) for problem in error.errors(include_url=False))
        raise ConfigError("\n".join(lines)) from None


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
            raise _unknown(name, source, ".".join(path), known)
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


def _from_dotted(overrides: Mapping[str, object], declared: Mapping[tuple[str, ...], Setting]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for dotted, value in overrides.items():
        *sections, name = dotted.split(".")
        inner: dict[str, Any] = {name: value}
        for section in reversed(sections):
            inner = {section: inner}
        values = _merged(values, inner)
    _check_names(values, "the command line", declared)
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
            raise _unknown(dotted, source, dotted, {setting.dotted: setting.dotted for setting in declared.values()})


def _unknown(name: str, source: str, dotted: str, known: Mapping[str, str]) -> ConfigError:
    near = get_close_matches(dotted, known, n=1)
    hint = f"; did you mean {known[near[0]]}?" if near else ""
    return ConfigError(f"{name} (in {source}) is not a setting{hint}")


def _merged(weaker: Mapping[str, Any], stronger: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(weaker)
    for name, value in stronger.items():
        below = result.get(name)
        result[name] = _merged(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return result


def _explained(problem: Mapping[str, Any], layers: list[tuple[str, dict[str, Any]]]) -> str:
    """One line a wrong value: which setting, what is wrong, what it is, where it came from."""
    path = tuple(str(part) for part in problem["loc"])
    message = str(problem["msg"]).removeprefix("Value error, ")
    while path:
        for source, layer in layers:
            value: Any = layer
            for part in path:
                value = value.get(part, ...) if isinstance(value, Mapping) else ...
            if value is not ...:
                shown = "" if isinstance(value, Mapping) else f", not {str(value)[:_MAX_SHOWN_CHARACTERS]!r}"
                return f"{'.'.join(path)}: {message}{shown} (in {source})"
        path = path[:-1]
    return message
