"""A worker's records of requests on their way to the first process, which shows all."""

from __future__ import annotations

from typing import Final

from gateway.flows.log import FlowLog, Viewing
from gateway.observe.flow_fields import LOST, VERDICTS
from gateway.workers.channel import Channel

#: Records of one message.
AT_ONCE: Final = 128


class FlowTeller:
    """Tells what the first process wants while it wants something. What that does not take in time is lost, and told as
    that."""

    def __init__(self, channel: Channel, log: FlowLog, index: int) -> None:
        self._channel = channel
        self._log = log
        self._index = index
        self._viewing: Viewing | None = None

    def want(self, filters: list[str], capacity: int) -> None:
        """The first process wants what fits any of these, and nothing where there are none."""
        self._log.want(filters, capacity)
        if filters and self._viewing is None:
            self._viewing = self._log.view(raw=True)
            self._viewing.when_more(self._tell)
        elif not filters:
            self.stop()

    def stop(self) -> None:
        if self._viewing is not None:
            self._viewing.close()
            self._viewing = None

    def _tell(self) -> None:
        viewing = self._viewing
        if viewing is None:
            return
        if not self._channel.busy:
            records = viewing.take(AT_ONCE)
            for record in records:
                if record["verdict"] == VERDICTS[LOST]:
                    record["reason"] = f"worker {self._index}"
            if records:
                self._channel.send("flows", records=records)
        viewing.when_more(self._tell)
