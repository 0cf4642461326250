"""JWK sets (RFC 7517): which keys of a document can vouch for tokens, and how the document is fetched.

Public signing keys only: Ed25519, P-256 and RSA of 2,048 bits or more, each with an id; the algorithm is pinned to the
key. Others in a set are left out, because issuers publish keys for other uses, too; a private key is refused, because
somebody has made a mistake.

Fetching is bounded in time and bytes, follows no redirect and takes no proxy or credential from the environment.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from jwt import PyJWK
from jwt.exceptions import PyJWTError

from gateway.config import is_loopback
from gateway.errors import InvalidChange
from gateway.policy.tokens import MAX_KEY_ID_CHARACTERS, PublicKey, VerificationKey

if TYPE_CHECKING:
    import httpx

MAX_KEYS = 32
MAX_BYTES = 64 * 1024
FETCH_S = 3.0

_ALGORITHMS = {("OKP", "Ed25519"): "EdDSA", ("EC", "P-256"): "ES256", ("RSA", ""): "RS256"}
#: Members that only private keys have.
_PRIVATE = ("d", "p", "q", "k")


def public_keys(document: object, issuer: str) -> tuple[tuple[VerificationKey, ...], dict[str, Any]]:
    """The keys of a set that can vouch for tokens of `issuer`, and the set without anything else.

    Raises:
        InvalidChange: it is no set, has more than 32 keys, holds a private key, or none that can be used.
    """
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise InvalidChange("this is no JWK set: an object with a list `keys`", "/keys")
    if len(entries) > MAX_KEYS:
        raise InvalidChange(f"a JWK set has at most {MAX_KEYS} keys", "/keys")
    found: dict[tuple[str, str], VerificationKey] = {}
    kept: list[dict[str, Any]] = []
    for at, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise InvalidChange("this is no key", f"/keys/{at}")
        if any(name in entry for name in _PRIVATE):
            raise InvalidChange("this is a private or shared key: publish the public half only", f"/keys/{at}")
        key = _usable(entry, issuer)
        if key is not None and (key.kid, key.algorithm) not in found:
            found[key.kid, key.algorithm] = key
            kept.append(entry)
    if not found:
        raise InvalidChange(
            "there is no key to verify with: Ed25519, P-256 or RSA of 2,048 bits, with a `kid`", "/keys"
        )
    return tuple(found.values()), {"keys": kept}


def _usable(entry: dict[str, Any], issuer: str) -> VerificationKey | None:
    kid = entry.get("kid")
    curve = "" if entry.get("kty") == "RSA" else entry.get("crv")
    algorithm = _ALGORITHMS.get((str(entry.get("kty")), str(curve)))
    if not isinstance(kid, str) or not 0 < len(kid) <= MAX_KEY_ID_CHARACTERS or algorithm is None:
        return None
    if entry.get("use", "sig") != "sig" or entry.get("alg", algorithm) != algorithm:
        return None
    try:
        return VerificationKey(kid, algorithm, cast(PublicKey, PyJWK(entry, algorithm).key), issuer)
    except (PyJWTError, ValueError, TypeError, KeyError):
        return None


def checked_url(url: object) -> str:
    """Raises InvalidChange unless it is https, or http on this machine."""
    if isinstance(url, str) and len(url) <= 2048 and url.isprintable():
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname, parts.port
        except ValueError:
            host, parts = None, urlsplit("")
        if (
            host
            and "@" not in parts.netloc
            and (parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host)))
        ):
            return url
    raise InvalidChange("a JWKS URL is https (http on this machine only) and holds no password", "/jwks_url")


async def client() -> httpx.AsyncClient:
    """What `fetch` goes through. Made off the loop: reading the system's authorities takes tens of milliseconds."""
    return await asyncio.to_thread(_made)


def _made() -> httpx.AsyncClient:
    # Most nodes know no issuer with keys to fetch, and need not hold the memory that this takes.
    import httpx

    return httpx.AsyncClient(
        timeout=FETCH_S, follow_redirects=False, trust_env=False, headers={"accept": "application/json"}
    )


async def fetch(http: httpx.AsyncClient, url: str) -> object:
    """The JSON document at `url`.

    Raises:
        ValueError: it did not come whole within three seconds and 64 KiB, or is no JSON; the text says which.
    """
    import httpx

    content = bytearray()
    try:
        async with asyncio.timeout(FETCH_S), http.stream("GET", url) as response:
            if response.status_code != 200:
                raise ValueError(f"it answered {response.status_code}")
            async for chunk in response.aiter_bytes(16 * 1024):
                content += chunk
                if len(content) > MAX_BYTES:
                    raise ValueError(f"it is longer than {MAX_BYTES} bytes")
        return json.loads(content)
    except (TimeoutError, httpx.TimeoutException) as error:
        raise ValueError(f"it took longer than {FETCH_S:g} s") from error
    except (httpx.HTTPError, OSError) as error:
        raise ValueError(str(error) or type(error).__name__) from error
    except RecursionError as error:
        raise ValueError("it is no JSON") from error
