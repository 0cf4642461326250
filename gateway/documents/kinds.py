"""Which kinds of document there are."""

from __future__ import annotations

from types import MappingProxyType

from gateway.documents import spool
from gateway.documents.model import Kind

KINDS = MappingProxyType({kind.name: kind for kind in (Kind("Spool", spool.Spool, spool.check),)})
