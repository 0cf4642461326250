"""The admin API as one ASGI application: its resources, behind the boundary, with every error a problem.

`document()` is its OpenAPI description, which is committed as `openapi.json` beside this file and compared by
`make lint`. It is served from there: making it takes up to a second, for which the data plane would stand still.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from starlette.routing import compile_path

from gateway import __version__
from gateway.admin import problem
from gateway.admin.access import SECURITY, Operation
from gateway.admin.boundary import REQUESTS_PER_SECOND, Boundary
from gateway.admin.context import Context
from gateway.admin.problem import MEDIA_TYPE, ErrorAt, ProblemDetails
from gateway.admin.resources import ROUTERS
from gateway.admin.static import Static

ENDLESS: Final = ("/api/v1/stream/events", "/api/v1/stream/stats", "/api/v1/devices/export", "/api/v1/audit/export")

_DESCRIPTION: Final = """\
Everything an operator does to a node. Errors are problem details (RFC 9457); lists are pages with opaque cursors;
objects that several people may edit have an `ETag` and need `If-Match`; creating takes an `Idempotency-Key`; every
change takes `?dry_run=1`. Each operation names its scope (`x-scope`), what it does (`x-action`) and the roles that may
(`x-roles`)."""


def application() -> FastAPI:
    """The resources alone; `create` puts the boundary before them."""
    app = FastAPI(
        title="Gateway admin API",
        version=__version__,
        description=_DESCRIPTION,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        separate_input_output_schemas=False,
    )
    for router in ROUTERS:
        # Not `include_router`, which keeps a second description of every route.
        app.router.routes.extend(router.routes)
    problem.install(app, _Methods().of)
    app.openapi = lambda: document(app)  # type: ignore[method-assign]
    return app


def create(
    context: Context,
    *,
    hosts: Callable[[], Collection[str]],
    requests_per_second: int = REQUESTS_PER_SECOND,
) -> Boundary:
    app = application()
    app.state.context = context
    app.middleware_stack = app.build_middleware_stack()
    return Boundary(
        app,
        hosts=hosts,
        requests_per_second=requests_per_second,
        endless=ENDLESS,
        files=Static(),
        uploads={"/api/v1/firmware": lambda: context.settings.config.firmware.max_image_bytes},
    )


def operations(app: FastAPI) -> list[Operation]:
    """Every operation. Raises TypeError for a route that is none: it would be open to everybody."""
    found: list[Operation] = []
    for router in ROUTERS:
        for route in router.routes:
            if not isinstance(route, Operation):
                raise TypeError(f"{route} says nothing of who may use it")
            found.append(route)
    return found


def document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI 3.1 description."""
    if app.openapi_schema is None:
        schema = get_openapi(
            title=app.title,
            version="1",
            description=app.description,
            routes=app.routes,
            separate_input_output_schemas=False,
        )
        components = schema.setdefault("components", {})
        schemas = components.setdefault("schemas", {})
        for model in (ProblemDetails, ErrorAt):
            own = model.model_json_schema(ref_template="#/components/schemas/{model}")
            own.pop("$defs", None)
            schemas[model.__name__] = own
        # Errors are problems here; FastAPI's own description of a refused body never goes out.
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        components["securitySchemes"] = {
            SECURITY: {
                "type": "http",
                "scheme": "bearer",
                "description": "An API key (`gk_…`), the access token of a login, or a token of the node's own keys.",
            }
        }
        _share_problems(schema)
        schema["info"]["license"] = {"name": "Apache-2.0", "identifier": "Apache-2.0"}
        app.openapi_schema = schema
    return app.openapi_schema


class _Methods:
    """Which methods a path takes."""

    def __init__(self) -> None:
        self._fixed: dict[str, set[str]] = {}
        self._patterns: list[tuple[re.Pattern[str], set[str]]] = []
        for router in ROUTERS:
            for route in router.routes:
                assert isinstance(route, APIRoute)
                path, methods = route.path, route.methods or set()
                if "{" in path:
                    self._patterns.append((compile_path(path)[0], methods))
                else:
                    self._fixed.setdefault(path, set()).update(methods)

    def of(self, path: str) -> list[str]:
        fixed = self._fixed.get(path)
        if fixed is not None:
            return sorted(fixed)
        return sorted({method for regex, methods in self._patterns if regex.fullmatch(path) for method in methods})


def _share_problems(schema: dict[str, Any]) -> None:
    """Describe each problem once: all operations answer with the same ones."""
    shared = schema["components"].setdefault("responses", {})
    for methods in schema["paths"].values():
        for operation in methods.values():
            for status, described in operation["responses"].items():
                if MEDIA_TYPE in described.get("content", {}):
                    shared[f"Problem{status}"] = described
                    operation["responses"][status] = {"$ref": f"#/components/responses/Problem{status}"}
