"""The kinds of problem that the admin API answers with (RFC 9457), one page each.

A slug is stable: programs and `gateway explain SLUG` hang on it. The API renders answers from this table, the command
line prints it, and `GET /problems/{slug}` is its page. A leaf: knows neither of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

#: What a problem's `type` begins with.
PREFIX = "/problems/"


@dataclass(frozen=True, slots=True)
class ProblemKind:
    """`status` is the HTTP status; `title` a line; `explanation` says what happened, `remedy` what to do about it."""

    slug: str
    status: int
    title: str
    explanation: str
    remedy: str

    @property
    def type(self) -> str:
        return PREFIX + self.slug


def _table(*kinds: ProblemKind) -> Mapping[str, ProblemKind]:
    return MappingProxyType({kind.slug: kind for kind in kinds})


PROBLEMS = _table(
    ProblemKind(
        "bad-request",
        400,
        "The request cannot be read",
        "The request is no HTTP message that this API can make sense of, or a header in it is malformed.",
        "Send JSON in UTF-8 with `Content-Type: application/json`.",
    ),
    ProblemKind(
        "unauthenticated",
        401,
        "No valid credential",
        "There is no bearer token, or it is unknown, expired or revoked. The answer is the same for each of them.",
        "Log in (`POST /api/v1/auth/login`), use an API key (`Authorization: Bearer gk_…`), or run `gateway` as the "
        "user who owns the data directory.",
    ),
    ProblemKind(
        "forbidden",
        403,
        "The credential does not allow this",
        "The caller is known, but its role is too low, the operation's scope is not among its scopes, or the operation "
        "is for people who have logged in and not for API keys.",
        "`GET /api/v1/auth/me` lists role and scopes; the reference lists what each operation needs.",
    ),
    ProblemKind(
        "not-found",
        404,
        "There is no such thing",
        "Nothing has this path or id, or it has gone since it was listed.",
        "List the collection again.",
    ),
    ProblemKind(
        "method-not-allowed",
        405,
        "The path does not take this method",
        "The `Allow` header has the methods that it takes.",
        "Only methods other than GET and HEAD change anything.",
    ),
    ProblemKind(
        "timeout",
        503,
        "It took too long",
        "The operation was not done within the API's time limit and was given up.",
        "Ask for less at a time (`limit`), or again when the node is less busy.",
    ),
    ProblemKind(
        "conflict",
        409,
        "It does not go with what is there",
        "Something of this name exists already, or the state of the object forbids the change.",
        "The detail says what is in the way.",
    ),
    ProblemKind(
        "config-locked",
        409,
        "The value is set by the environment",
        "A setting on the command line, in the environment or in a secrets file is stronger than what the API sets, at "
        "the start and at run time alike.",
        "Remove it from there, or change it there and restart the node.",
    ),
    ProblemKind(
        "restart-needed",
        409,
        "A running node cannot take this setting",
        "Only reloadable settings can be changed while the node runs; `GET /api/v1/config` marks them.",
        "Change the settings file or the environment and restart the node.",
    ),
    ProblemKind(
        "idempotency-conflict",
        409,
        "The idempotency key was used for another request",
        "The same `Idempotency-Key` came before with another body or path, or its first request is still under way.",
        "Use a new key for a new request; repeat an old one unchanged.",
    ),
    ProblemKind(
        "precondition-failed",
        412,
        "It has changed meanwhile",
        "The `ETag` in `If-Match` is not that of the object as it is now: somebody else changed it.",
        "Get the object again, make the change to what it is now, and send it with the new `ETag`.",
    ),
    ProblemKind(
        "body-too-large",
        413,
        "The body is too large",
        "A request body may have 1 MiB.",
        "Send a bulk import in parts.",
    ),
    ProblemKind(
        "unsupported-media-type",
        415,
        "The body is of a type that is not taken here",
        "Bodies are JSON; a bulk import is CSV or JSON lines.",
        "Set `Content-Type`.",
    ),
    ProblemKind(
        "misdirected",
        421,
        "Wrong host",
        "The `Host` header names no host of this node. A page on another site that tricks a browser into asking here "
        "(DNS rebinding) is stopped by this.",
        "Use an address, localhost or a name of the node's certificate, or add the name to `admin.hosts`.",
    ),
    ProblemKind(
        "invalid",
        422,
        "The request is understood but wrong",
        "A parameter or a part of the body is missing, unknown or out of range; `errors` has a pointer to each.",
        "Correct what the pointers show; unknown fields are errors, so check their spelling.",
    ),
    ProblemKind(
        "invalid-document",
        422,
        "A document is wrong",
        "The validator refuses what was to be applied, and nothing of it was stored; `errors` has a code, a pointer "
        "and a line for each thing that is wrong.",
        "Correct what they say; `gateway apply -f FILE --dry-run` checks without storing. Codes: docs/documents.md.",
    ),
    ProblemKind(
        "precondition-required",
        428,
        "If-Match is missing",
        "An object that several people may edit is changed only with the `ETag` that it was read with.",
        "Get the object, then send the change with `If-Match` and its `ETag`, or `If-Match: *` to overwrite.",
    ),
    ProblemKind(
        "too-many-requests",
        429,
        "Too many requests",
        "The caller is over its rate, has too many streams open, or failed to log in too often.",
        "Wait for as many seconds as `Retry-After` says.",
    ),
    ProblemKind(
        "internal",
        500,
        "A bug",
        "Something happened that should not. The node's log has the details under the `trace_id` of this answer.",
        "Report it, with the log's lines of that `trace_id`.",
    ),
    ProblemKind(
        "storage-unavailable",
        503,
        "It cannot be stored",
        "The database takes no change: the file is damaged, busy or gone, or the change could not be audited. "
        "Nothing was changed.",
        "`gateway doctor` names the cause; reads go on meanwhile.",
    ),
    ProblemKind(
        "storage-full",
        507,
        "The disk is full",
        "The database takes no change until there is room. Nothing was changed; reads go on.",
        "Make room, or give the database more; the node goes on by itself.",
    ),
    ProblemKind(
        "unavailable",
        503,
        "Not now",
        "The node is starting, stopping or too busy for this.",
        "Try again later.",
    ),
)
