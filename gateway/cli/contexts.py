"""Contexts: the nodes that this user manages, each with where its admin API is and the key for it.

They are in `$XDG_CONFIG_HOME/gateway/contexts.json`, for their owner alone (0600). The data directory of a node on this
machine is a context by itself: whoever may read its keys may sign in with them, and the node says in `runtime.json`
where it listens.

Which one is meant: `--context`, else `--data`, else GATEWAY_CONTEXT, else GATEWAY_ADMIN with GATEWAY_API_KEY, else
GATEWAY_DATA, else the selected one, else the default data directory.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from gateway.cli.data_directory import data_directory, has_identity
from gateway.errors import ConfigError

LOCAL = "local"
_NAME_CHARACTERS = 64


@dataclass(frozen=True, slots=True)
class Context:
    """One node. `admin` is the URL of its admin API; empty for a data directory, whose node says where it is."""

    name: str
    admin: str = ""
    key: str = ""
    ca: Path | None = None
    data: Path | None = None


class Contexts:
    """The file with the contexts. Reading an absent one finds none."""

    def __init__(self, path: Path) -> None:
        """Raises ConfigError when the file cannot be used."""
        self.path = path
        self.selected: str | None = None
        self._known: dict[str, Context] = {}
        try:
            document = json.loads(path.read_text())
            self.selected = document["selected"]
            for name, fields in document["contexts"].items():
                paths = {key: Path(fields[key]) if fields.get(key) else None for key in ("ca", "data")}
                self._known[name] = Context(name, fields.get("admin", ""), fields.get("key", ""), **paths)
        except FileNotFoundError:
            return
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror}") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"{path} holds no contexts: move it away and add them again") from error
        if path.stat().st_mode & 0o077:
            raise ConfigError(f"{path} holds keys and can be read by others: chmod 600 {path}")

    def __iter__(self) -> Iterator[Context]:
        return iter(sorted(self._known.values(), key=lambda context: context.name))

    def get(self, name: str) -> Context:
        """Raises ConfigError when there is none of that name."""
        if name not in self._known:
            names = ", ".join(sorted(self._known)) or "none yet; see gateway context add"
            raise ConfigError(f"there is no context {name!r}; there are: {names}")
        return self._known[name]

    def add(self, context: Context) -> None:
        """Enter or replace a context; the first one is selected. Raises ConfigError for a wrong name or URL."""
        name = context.name
        if not name or len(name) > _NAME_CHARACTERS or not name.replace("-", "").replace("_", "").isalnum():
            raise ConfigError(f"{name!r} is no name of a context: letters, digits, - and _, at most {_NAME_CHARACTERS}")
        if context.data is None:
            context = replace(context, admin=checked_url(context.admin))
        self._known[name] = context
        self.selected = self.selected or name

    def remove(self, name: str) -> None:
        self.get(name)
        del self._known[name]
        if self.selected == name:
            self.selected = None

    def select(self, name: str) -> None:
        self.selected = self.get(name).name

    def save(self) -> None:
        """Put the whole file there in one step. Raises ConfigError when that is not possible."""
        document = {
            "selected": self.selected,
            "contexts": {
                context.name: {key: str(value) for key, value in asdict(context).items() if value and key != "name"}
                for context in self
            },
        }
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            fresh = self.path.with_name(f".{self.path.name}.{os.getpid()}")
            fresh.unlink(missing_ok=True)
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "w") as file:
                json.dump(document, file, indent=1)
            fresh.rename(self.path)
        except OSError as error:
            raise ConfigError(f"{error.filename or self.path}: {error.strerror}") from error


def contexts_path(environ: Mapping[str, str] = os.environ) -> Path:
    base = environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "gateway" / "contexts.json"


def checked_url(text: str) -> str:
    """The URL of an admin API, without a slash at its end. Raises ConfigError for what is none."""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ConfigError(f"{text!r} is no address of an admin API: write https://host:9878")
    return text.rstrip("/")


def settled(name: str | None, data: Path | None, environ: Mapping[str, str] = os.environ) -> Context:
    """The context that a command means; see the top of this file.

    Raises:
        ConfigError: there is none.
    """
    if name is not None:
        return Contexts(contexts_path(environ)).get(name)
    if data is not None:
        return of_directory(data)
    if environ.get("GATEWAY_CONTEXT"):
        return Contexts(contexts_path(environ)).get(environ["GATEWAY_CONTEXT"])
    if environ.get("GATEWAY_ADMIN"):
        return Context("environment", checked_url(environ["GATEWAY_ADMIN"]), environ.get("GATEWAY_API_KEY", ""))
    directory = data_directory(None, environ)
    if environ.get("GATEWAY_DATA") or environ.get("GATEWAY__NODE__DATA"):
        return of_directory(directory)
    contexts = Contexts(contexts_path(environ))
    if contexts.selected is not None:
        return contexts.get(contexts.selected)
    if has_identity(directory):
        return of_directory(directory)
    raise ConfigError(
        f"which node? Name the data directory of one on this machine with --data ({directory} is none that this user "
        "can read), or add one elsewhere with gateway context add"
    )


def of_directory(data: Path) -> Context:
    """The context that a data directory is. Raises ConfigError when this user cannot read the keys in it."""
    if not has_identity(data):
        raise ConfigError(
            f"{data} is no data directory of a node, or belongs to another user: run this as that user, "
            "or use an API key (gateway context add)"
        )
    return Context(LOCAL, data=data)
