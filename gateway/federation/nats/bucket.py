"""The bucket of the shared table: made once, by an administrator; and what a node has to be allowed.

A node makes no bucket: its credential is for its own keys, the bucket's state and watches of its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from gateway.errors import FederationError
from gateway.federation.nats.client import NatsClient, Refused
from gateway.federation.table.names import token

#: For so long the engine tells that a key has run out.
MARKER_S = 120
MOST_REPLICAS = 3
_NS = 1_000_000_000
_NO_STREAM, _OTHER_STREAM = 10059, 10058


def configuration(bucket: str, replicas: int) -> dict[str, Any]:
    """The stream of the bucket, as JetStream's API takes it."""
    return {
        "name": f"KV_{bucket}",
        "description": "Routing table of an RSocket gateway",
        "subjects": [f"$KV.{bucket}.>"],
        "retention": "limits",
        "storage": "file",
        "num_replicas": replicas,
        "max_msgs_per_subject": 1,
        "max_msgs": -1,
        "max_bytes": -1,
        "max_age": 0,
        "max_msg_size": 64 * 1024 + 4096,
        "max_consumers": -1,
        "duplicate_window": 2 * 60 * _NS,
        "discard": "new",
        "allow_rollup_hdrs": True,
        "deny_delete": True,
        "deny_purge": False,
        "allow_direct": True,
        "mirror_direct": False,
        "allow_msg_ttl": True,
        "subject_delete_marker_ttl": MARKER_S * _NS,
        "compression": "none",
    }


def unfit(config: Mapping[str, Any]) -> list[str]:
    """What of a bucket's configuration the table cannot do with; empty when it is as `gateway engine init` makes it."""
    faults = []
    if not config.get("allow_msg_ttl"):
        faults.append("its records cannot run out (allow_msg_ttl)")
    if not config.get("subject_delete_marker_ttl"):
        faults.append("it does not tell that a record has run out (limit_marker_ttl)")
    if config.get("max_msgs_per_subject") != 1:
        faults.append(f"it keeps a history of {config.get('max_msgs_per_subject')} and not of 1")
    if config.get("max_age"):
        faults.append("all its records run out (max_age)")
    return faults


def remarks(info: Mapping[str, Any]) -> list[str]:
    """What makes a bucket weaker than it could be."""
    config, cluster = info["config"], info.get("cluster") or {}
    found = []
    if config.get("storage") != "file":
        found.append("it is in memory: a restart of all servers empties it, and every node writes its part again")
    peers = 1 + len(cluster.get("replicas") or ())
    if config.get("num_replicas", 1) < 3:
        found.append(f"it has {config.get('num_replicas', 1)} of 3 replicas: the loss of one server stops changes")
    behind = [str(each.get("name")) for each in cluster.get("replicas") or () if not each.get("current")]
    if behind:
        found.append(f"{len(behind)} of {peers} replicas are behind or away: {', '.join(behind)}")
    return found


async def state(client: NatsClient, filled: str = "") -> dict[str, Any]:
    """The bucket's state; with `filled`, the prefix of keys, those that have a value are in `state.subjects`.

    Raises:
        FederationError: there is no such bucket (`engine_no_bucket`), or the engine cannot be asked.
    """
    bucket = client.options.bucket
    request = json.dumps({"subjects_filter": f"$KV.{bucket}.{filled}.>"}).encode() if filled else b""
    try:
        return await client.call(f"$JS.API.STREAM.INFO.KV_{bucket}", request)
    except Refused as error:
        if error.code == _NO_STREAM:
            raise FederationError(
                f"the engine has no bucket {bucket!r}: make it with gateway engine init", reason="engine_no_bucket"
            ) from None
        raise


async def make(client: NatsClient, bucket: str, replicas: int) -> tuple[dict[str, Any], bool]:
    """Makes the bucket, with as many replicas as there can be; its state, and whether it was there before.

    Raises:
        FederationError: the credential is none of an administrator, or there is a bucket of that name that is unfit.
    """
    try:
        info = await client.call(f"$JS.API.STREAM.INFO.KV_{bucket}", seconds=5.0)
    except Refused as error:
        if error.code != _NO_STREAM:
            raise
    else:
        faults = unfit(info["config"])
        if faults:
            raise FederationError(
                f"there is a bucket {bucket!r}, which cannot hold the table: {'; '.join(faults)}; delete it or name "
                "another one (federation.bucket)",
                reason="engine_unfit",
            )
        return info, True
    while True:
        request = json.dumps(configuration(bucket, replicas)).encode()
        try:
            return await client.call(f"$JS.API.STREAM.CREATE.KV_{bucket}", request, seconds=10.0), False
        except Refused as error:
            # A cluster that is smaller than the list of its addresses, or one server alone.
            if replicas > 1 and error.code != _OTHER_STREAM:
                replicas -= 1
                continue
            raise


def permissions(bucket: str, node: str) -> dict[str, list[str]]:
    """Everything that a node does at the engine, and nothing else."""
    stream = f"KV_{bucket}"
    return {
        "publish": [
            f"$KV.{bucket}.n.{token(node)}",
            *(f"$KV.{bucket}.{kind}.>" for kind in "esd"),
            f"$JS.API.STREAM.INFO.{stream}",
            f"$JS.API.CONSUMER.CREATE.{stream}.>",
            f"$JS.API.CONSUMER.DELETE.{stream}.>",
            f"$JS.API.STREAM.MSG.GET.{stream}",
            f"$JS.API.DIRECT.GET.{stream}.>",
            f"$JS.FC.{stream}.>",
        ],
        "subscribe": [f"_INBOX_{token(node)}.>"],
    }


def users(bucket: str, nodes: Iterable[tuple[str, str]], administrator: str = "") -> str:
    """A piece of nats-server's configuration: an account with a user for each (node, public nkey)."""
    lines = ["accounts {", "  ROUTING {", "    jetstream: enabled", "    users: ["]
    lines.append(f"      {{ nkey: {administrator or 'U…  # the administrator, who makes the bucket'} }}")
    for node, nkey in nodes:
        allowed = permissions(bucket, node)
        lines.append(f"      # {node}")
        lines.append(f"      {{ nkey: {nkey}, permissions: {{")
        lines.append("          publish: { allow: [")
        lines += [f'            "{subject}"' for subject in allowed["publish"]]
        lines.append("          ] }")
        lines.append(
            "          subscribe: { allow: [ " + ", ".join(f'"{each}"' for each in allowed["subscribe"]) + " ] }"
        )
        lines.append("      } }")
    lines += ["    ]", "  }", "}"]
    return "\n".join(lines) + "\n"
