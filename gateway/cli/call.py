"""What every command that uses the admin API has in common: which node, how to print, and how to change something.

A command is a function whose first parameter is a `Query`, a `Listing` or a `Change`; `register` gives it the options
of that kind. So each of them has `--context`, `--data` and `-o`, each listing `--limit`, each change `--yes` and
`--dry-run`.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from gateway.cli import contexts, target
from gateway.cli.table import Column, Document, Style, fields, listing
from gateway.errors import ConfigError

if TYPE_CHECKING:
    from gateway.cli.api import Api

LIMIT = 50

ContextName = Annotated[
    str | None,
    typer.Option("--context", help="Which node, by the name of a context. [GATEWAY_CONTEXT]", show_default=False),
]
Output = Annotated[Style, typer.Option("-o", "--output", help="How to print.")]
Limit = Annotated[int, typer.Option("--limit", min=0, help="Entries at most; 0: all.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything and say what would be; change nothing.")]


def _option(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


class Query:
    """A command that asks."""

    OPTIONS: tuple[inspect.Parameter, ...] = (
        _option("context", ContextName, None),
        _option("data", target.Data, None),
        _option("output", Output, "table"),
    )

    def __init__(self, context: str | None, data: Path | None, output: Style) -> None:
        self.output = output
        self.named_data = data
        self._chosen = (context, data)
        self._api: Api | None = None

    @property
    def context(self) -> contexts.Context:
        """Raises a usage error when it is not clear which node is meant."""
        try:
            return contexts.settled(*self._chosen)
        except ConfigError as error:
            raise typer.BadParameter(error.text) from None

    @property
    def api(self) -> Api:
        """Signed in when it is first used."""
        if self._api is None:
            from gateway.cli.api import Api

            self._api = Api(self.context)
        return self._api

    def close(self) -> None:
        if self._api is not None:
            self._api.__exit__()

    def show(self, document: Document) -> None:
        fields(document, self.output)

    def list(self, documents: Iterable[Document], columns: Sequence[Column]) -> int:
        return listing(documents, columns, self.output)

    @property
    def for_people(self) -> bool:
        return self.output in ("table", "wide")


class Listing(Query):
    """A command that lists."""

    OPTIONS = (*Query.OPTIONS, _option("limit", Limit, LIMIT))

    def __init__(self, limit: int, **options: Any) -> None:
        super().__init__(**options)
        self.limit = limit

    def pages(self, path: str, columns: Sequence[Column], **params: Any) -> None:
        """Print a list of the API; where it goes on, say how to see more."""
        count = self.list(self.api.entries(path, self.limit, **params), columns)
        if self.limit and count == self.limit and self.for_people:
            typer.echo(f"the first {count}; --limit 0 for all", err=True)


class Change(Query):
    """A command that changes something."""

    OPTIONS = (*Query.OPTIONS, _option("yes", Yes, False), _option("dry_run", DryRun, False))

    def __init__(self, yes: bool, dry_run: bool, **options: Any) -> None:
        super().__init__(**options)
        self.dry_run = dry_run
        self._yes = yes

    def confirm(self, what: str) -> None:
        """Ask before what cannot be undone, where there is somebody to ask; `what` is a whole question.

        Raises a usage error where there is nobody, and ends the command when the answer is no.
        """
        if self._yes or self.dry_run:
            return
        if not sys.stdin.isatty():
            raise typer.BadParameter(f"{what} Say --yes, since there is no terminal to ask on; --dry-run to try it.")
        typer.confirm(what, abort=True, err=True)

    def send(self, method: str, path: str, body: Any = None, **options: Any) -> Any:
        return self.api.send(method, path, body, dry_run=self.dry_run, **options)

    def done(self, text: str, document: Any = None) -> None:
        """Say what has been done; for programs the document that came back."""
        if not self.for_people:
            fields(document if isinstance(document, dict) else {"done": text}, self.output)
        else:
            typer.echo(f"{text} (dry run: nothing was changed)" if self.dry_run else text)


def register(group: typer.Typer, function: Callable[..., None], name: str | None = None) -> None:
    """Put a command into a group, with the options of its first parameter's kind."""
    hints = get_type_hints(function, include_extras=True)
    first, *own = inspect.signature(function).parameters.values()
    kind: type[Query] = hints[first.name]

    def command(**values: Any) -> None:
        call = kind(**{option.name: values.pop(option.name) for option in kind.OPTIONS})
        try:
            function(call, **values)
        finally:
            call.close()

    parameters = [
        *(item.replace(annotation=hints[item.name], kind=inspect.Parameter.KEYWORD_ONLY) for item in own),
        *kind.OPTIONS,
    ]
    vars(command).update(
        __signature__=inspect.Signature(parameters),
        __annotations__={parameter.name: parameter.annotation for parameter in parameters},
    )
    command.__doc__ = function.__doc__
    group.command(name or function.__name__.rstrip("_").replace("_", "-"))(command)
