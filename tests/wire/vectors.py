"""The golden vectors of tests/vectors as Python values (that folder's README says what they hold)."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from gateway.wire import brokering, frames, metadata

FOLDER = Path(__file__).parent.parent / "vectors"

FRAMES: dict[str, Any] = {
    "SETUP": frames.Setup,
    "LEASE": frames.Lease,
    "KEEPALIVE": frames.KeepAlive,
    "REQUEST_RESPONSE": frames.RequestResponse,
    "REQUEST_FNF": frames.RequestFnf,
    "REQUEST_STREAM": frames.RequestStream,
    "REQUEST_CHANNEL": frames.RequestChannel,
    "REQUEST_N": frames.RequestN,
    "CANCEL": frames.Cancel,
    "PAYLOAD": frames.Payload,
    "ERROR": frames.Error,
    "METADATA_PUSH": frames.MetadataPush,
    "RESUME": frames.Resume,
    "RESUME_OK": frames.ResumeOk,
    "EXT": frames.Extension,
}

BROKER_FRAMES: dict[str, Any] = {
    "ROUTE_SETUP": brokering.RouteSetup,
    "ROUTE_JOIN": brokering.RouteJoin,
    "ROUTE_REMOVE": brokering.RouteRemove,
    "BROKER_INFO": brokering.BrokerInfo,
    "ADDRESS": brokering.Address,
}


def load(file: str) -> list[dict[str, Any]]:
    vectors: list[dict[str, Any]] = json.loads((FOLDER / file).read_text())
    return vectors


def parameters(vectors: list[dict[str, Any]]) -> list[Any]:
    """One pytest parameter a vector, called by its name."""
    return [
        pytest.param(vector, id=f"{vector.get('type', vector.get('kind'))}: {vector['name']}") for vector in vectors
    ]


def frame_of(vector: dict[str, Any]) -> frames.Frame:
    """The frame that a vector of frames.json describes."""
    cls = FRAMES[vector["type"]]
    values = {}
    for field in fields(cls):
        value = vector["extended_type" if field.name == "type" else field.name]
        values[field.name] = bytes.fromhex(value) if "bytes" in str(field.type) and value is not None else value
    frame: frames.Frame = cls(**values)
    return frame


def broker_frame_of(vector: dict[str, Any]) -> brokering.BrokerFrame:
    """The frame that a vector of brokering.json describes."""
    cls = BROKER_FRAMES[vector["type"]]
    values: dict[str, Any] = {}
    for field in fields(cls):
        value = vector[field.name]
        if field.name == "tags":
            value = tuple((key, tag) for key, tag in value)
        elif field.name == "cast":
            value = brokering.Cast[value]
        elif field.name.endswith("_id"):
            value = bytes.fromhex(value)
        values[field.name] = value
    frame: brokering.BrokerFrame = cls(**values)
    return frame


def authentication_of(vector: dict[str, Any]) -> metadata.Authentication:
    if vector["scheme"] == "bearer":
        return metadata.Bearer(bytes.fromhex(vector["token"]))
    if vector["scheme"] == "simple":
        return metadata.Simple(vector["user"], vector["password"])
    return metadata.OtherAuthentication(vector["scheme"], bytes.fromhex(vector["body"]))


def zipkin_of(vector: dict[str, Any]) -> metadata.Zipkin:
    ids = [vector[name] and bytes.fromhex(vector[name]) for name in ("trace_id", "span_id", "parent_id")]
    return metadata.Zipkin(metadata.Sampling[vector["sampling"]], *ids)
