"""Who calls the admin API, and whether they may: deny by default (fault 98).

Every operation is made by `Operations`, which takes what it does (an `Action`) and on what (a scope), or that it is
open to everybody and why. An operation without either cannot be made, and a test walks them all. The caller is known,
and what it may do is judged, before anything of the request but its headers is read.

A credential is a bearer token: an API key, what a login gave, or a token that the keys of the node's own data directory
signed for `LOCAL_AUDIENCE`, which is how the command line comes in on the same machine. No cookies.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Annotated, Any, Final, Protocol, TypeVar, cast

from fastapi import APIRouter, Depends, Request, Response
from fastapi.routing import APIRoute

from gateway.admin.context import Context, context_of
from gateway.admin.problem import MEDIA_TYPE, Problem, ProblemDetails, trace_of
from gateway.control.audit import Actor
from gateway.control.idempotency import Stored
from gateway.control.plane import Caller
from gateway.control.roles import ALLOWED, SCOPES, Action, Role, permits
from gateway.errors import AlreadyExists, InvalidChange, TokenError
from gateway.policy.principal import Kind
from gateway.policy.tokens import TokenVerifier

PREFIX: Final = "/api/v1"
LOCAL_AUDIENCE: Final = "gateway-admin"
MAX_CREDENTIAL_BYTES: Final = 8 * 1024
SECURITY: Final = "bearer"
_MAX_IDEMPOTENCY_KEY: Final = 128
_IDEMPOTENCY_PATTERN: Final = re.compile(rf"[!-~]{{1,{_MAX_IDEMPOTENCY_KEY}}}")

Handler = Callable[[Request], Coroutine[Any, Any, Response]]
Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])


class LocalKeys:
    """Judges tokens that were signed on this machine with the keys of the data directory."""

    def __init__(self, verifier: TokenVerifier) -> None:
        self._verifier = verifier

    def caller(self, bearer: str, now: float) -> Caller | None:
        """Who holds it; None when it is no such token."""
        if not bearer.startswith("eyJ"):
            return None
        try:
            principal = self._verifier.verify(bearer, now)
        except TokenError:
            return None
        if principal.kind is not Kind.ADMIN:
            return None
        return Caller(
            type="cli",
            id=principal.subject,
            role=Role.ADMIN,
            scopes=frozenset(SCOPES),
            session_id=None,
            must_change_password=False,
        )


def address_of(request: Request) -> str:
    """The caller's address."""
    return request.client.host if request.client is not None else ""


def actor_of(request: Request) -> Actor:
    """Whom the audit names for what this request does."""
    return cast(Caller, request.state.caller).actor(address_of(request), trace_of(request))


def stranger_of(request: Request) -> Actor:
    """Whom the audit names before anybody is known."""
    return Actor("system", "anonymous", address_of(request), trace_of(request))


def caller_of(request: Request) -> Caller:
    return cast(Caller, request.state.caller)


By = Annotated[Actor, Depends(actor_of)]
Stranger = Annotated[Actor, Depends(stranger_of)]
Who = Annotated[Caller, Depends(caller_of)]


async def authenticate(request: Request, context: Context) -> Caller:
    """Raises Problem (401) unless the request has a credential that holds."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token or len(token) > MAX_CREDENTIAL_BYTES or not token.isascii():
        raise Problem("unauthenticated")
    local = context.local_keys.caller(token, context.plane.wall())
    if local is not None:
        return local
    return await context.control.authenticate(token, address_of(request))


class Operation(APIRoute):
    """A route that knows what it needs. `scope` and `action` are None for one that is open to everybody."""

    scope: str | None
    action: Action | None

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        extra = options.get("openapi_extra") or {}
        if "x-scope" not in extra and "x-open" not in extra:
            raise TypeError(f"{path} has neither a scope nor a reason to be open")
        self.scope = extra.get("x-scope")
        self.action = Action(extra["x-action"]) if "x-action" in extra else None
        self.idempotent = bool(extra.get("x-idempotency-key"))
        self.secret = bool(extra.get("x-answers-secret"))
        self.before_password = bool(extra.get("x-before-password-change"))
        super().__init__(path, endpoint, **options)

    def get_route_handler(self) -> Handler:
        handle = super().get_route_handler()

        async def guarded(request: Request) -> Response:
            context = context_of(request)
            if self.scope is not None:
                await asyncio.sleep(0)
                request.state.caller = await self._let_in(request, context)
                await asyncio.sleep(0)
            key = request.headers.get("idempotency-key")
            if not self.idempotent or key is None:
                return await handle(request)
            if _IDEMPOTENCY_PATTERN.fullmatch(key) is None:
                raise Problem(
                    "bad-request", f"Idempotency-Key has 1 to {_MAX_IDEMPOTENCY_KEY} of the characters ! to ~"
                )
            if _is_rehearsal(request):
                return await handle(request)
            store = context.secret_replays if self.secret else context.control.idempotency
            return await _once(request, store, key, handle)

        return guarded

    async def _let_in(self, request: Request, context: Context) -> Caller:
        caller = await authenticate(request, context)
        assert self.scope is not None
        assert self.action is not None
        if self.scope != ANY and not caller.may(self.scope, self.action):
            raise Problem("forbidden", f"this needs the scope {self.scope} and a role that may {self.action.value}")
        if caller.must_change_password and not self.before_password:
            raise Problem("forbidden", "change the password first: POST /api/v1/auth/password")
        return caller


#: The scope of what everybody who is known may do: ask who they are, change their own password, log out.
ANY: Final = "any"


class _Replays(Protocol):
    async def begin(self, key: str, caller: str, digest: str) -> Stored | None: ...
    async def finish(self, key: str, caller: str, status: int, headers: Mapping[str, str], body: bytes) -> None: ...
    async def abandon(self, key: str, caller: str) -> None: ...


def _is_rehearsal(request: Request) -> bool:
    """A dry run, which leaves nothing: no answer under the key of what may follow it either."""
    return request.query_params.get("dry_run", "").lower() in ("1", "true", "on", "yes", "t", "y")


async def _once(request: Request, store: _Replays, key: str, handle: Handler) -> Response:
    """Do what the key stands for once: a repetition gets the first one's answer."""
    caller = caller_of(request)
    whose = f"{caller.type}:{caller.id}"
    what = f"{request.method} {request.url.path}?{request.url.query}\n".encode() + await request.body()
    try:
        stored = await store.begin(key, whose, hashlib.sha256(what).hexdigest())
    except (InvalidChange, AlreadyExists) as error:
        raise Problem("idempotency-conflict", str(error)) from error
    if stored is not None:
        return Response(stored.body, stored.status, {**stored.headers, "idempotency-replayed": "true"})
    try:
        response = await handle(request)
    except BaseException:
        await store.abandon(key, whose)
        raise
    kept = {name: response.headers[name] for name in ("content-type", "etag", "location") if name in response.headers}
    await store.finish(key, whose, response.status_code, kept, bytes(response.body))
    return response


def roles_that_may(scope: str, action: Action) -> list[str]:
    """The roles that may do this, given the scope."""
    return [role.value for role in Role if permits(role, frozenset(SCOPES), scope, action)]


class Operations:
    """The operations of one noun, all under `prefix`."""

    def __init__(self, noun: str, scope: str, prefix: str = PREFIX) -> None:
        assert scope in SCOPES or scope == ANY, scope
        self.router = APIRouter(tags=[noun], route_class=Operation, prefix=prefix)
        self._scope = scope

    def get(self, path: str, action: Action = Action.READ, **options: Any) -> Callable[[Endpoint], Endpoint]:
        return self._operation("GET", path, action, **options)

    def post(self, path: str, action: Action = Action.WRITE, **options: Any) -> Callable[[Endpoint], Endpoint]:
        return self._operation("POST", path, action, **options)

    def put(self, path: str, action: Action = Action.WRITE, **options: Any) -> Callable[[Endpoint], Endpoint]:
        return self._operation("PUT", path, action, **options)

    def patch(self, path: str, action: Action = Action.WRITE, **options: Any) -> Callable[[Endpoint], Endpoint]:
        return self._operation("PATCH", path, action, **options)

    def delete(self, path: str, action: Action = Action.WRITE, **options: Any) -> Callable[[Endpoint], Endpoint]:
        return self._operation("DELETE", path, action, **options)

    def open(
        self, method: str, path: str, why: str, *, problems: Sequence[int] = (), **options: Any
    ) -> Callable[[Endpoint], Endpoint]:
        """An operation for everybody who reaches the port."""
        extra = {"x-open": why, "security": []}
        return self._route(method, path, extra, {421, 429, 503, *problems}, **options)

    def _operation(
        self,
        method: str,
        path: str,
        action: Action,
        *,
        scope: str | None = None,
        problems: Sequence[int] = (),
        creates: bool = False,
        secret: bool = False,
        before_password: bool = False,
        extra: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Callable[[Endpoint], Endpoint]:
        scope = scope or self._scope
        roles = [role.value for role in Role] if scope == ANY else roles_that_may(scope, action)
        extra = {
            "x-scope": scope,
            "x-action": action.value,
            "x-roles": roles,
            "security": [{SECURITY: []}],
            **(extra or {}),
        }
        answers = {401, 403, 421, 422, 429, 503, *problems}
        if "{" in path:
            answers.add(404)
        if method != "GET":
            answers |= {400, 413, 507}
        if before_password:
            extra["x-before-password-change"] = True
        if creates:
            options.setdefault("status_code", 201)
            extra["x-idempotency-key"] = True
            extra["parameters"] = [_IDEMPOTENCY_KEY]
            if secret:
                extra["x-answers-secret"] = True
            answers |= {400, 409}
        return self._route(method, path, extra, answers, **options)

    def _route(
        self, method: str, path: str, extra: dict[str, Any], answers: set[int], **options: Any
    ) -> Callable[[Endpoint], Endpoint]:
        def register(endpoint: Endpoint) -> Endpoint:
            documented: dict[int | str, dict[str, Any]] = {
                status: _problem_answer(status) for status in sorted(answers)
            }
            self.router.add_api_route(
                path,
                endpoint,
                methods=[method],
                operation_id=options.pop("operation_id", endpoint.__name__),
                responses={**documented, **options.pop("responses", {})},
                openapi_extra=extra,
                **options,
            )
            return endpoint

        return register


_IDEMPOTENCY_KEY: Final = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "A repetition with the same key gets the first answer and does nothing more; kept for 24 h.",
    "schema": {"type": "string", "minLength": 1, "maxLength": _MAX_IDEMPOTENCY_KEY, "pattern": "^[!-~]+$"},
}

_WORDS: Final = {
    400: "The request cannot be read",
    401: "No valid credential",
    403: "The credential does not allow this",
    404: "There is no such thing",
    409: "It does not go with what is there",
    412: "It has changed meanwhile",
    413: "The body is too large",
    415: "The body is of a type that is not taken here",
    421: "Wrong host",
    422: "The request is understood but wrong",
    428: "If-Match is missing",
    429: "Too many requests",
    503: "Not now",
    507: "The disk is full",
}


def _problem_answer(status: int) -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{ProblemDetails.__name__}"}
    return {"description": _WORDS[status], "content": {MEDIA_TYPE: {"schema": schema}}}


def may_at_all(role: Role, action: Action) -> bool:
    """Whether a role may do this to anything."""
    return action in ALLOWED[role]
