"""The engine `nats` of the shared table. Needs the extra `[nats]`; nothing else imports it."""

from gateway.federation.nats.client import NatsClient, NatsOptions
from gateway.federation.nats.store import NatsStore

__all__ = ["NatsClient", "NatsOptions", "NatsStore"]
