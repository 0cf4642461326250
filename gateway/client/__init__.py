"""What a Python service or application imports to talk through a gateway.

Serve with ``Service``, call with ``connect``. docs/client.md is the tour.
"""

from __future__ import annotations

from gateway.client.calls import Gateway, connect
from gateway.client.errors import ConnectionLost, RequestFailed, SetupRefused, Unreachable, code_name
from gateway.client.handlers import Handlers
from gateway.client.link import Options, Ready, Token
from gateway.client.metadata import Caller, Request, deadline
from gateway.client.service import Service

__all__ = [
    "Caller",
    "ConnectionLost",
    "Gateway",
    "Handlers",
    "Options",
    "Ready",
    "Request",
    "RequestFailed",
    "Service",
    "SetupRefused",
    "Token",
    "Unreachable",
    "code_name",
    "connect",
    "deadline",
]
