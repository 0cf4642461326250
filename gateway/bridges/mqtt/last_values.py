"""The last retained message of each topic, as far as there is room: the oldest one goes first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from gateway.bridges.mqtt.message import Message
from gateway.topics.filters import ONE, REST, matches

#: What an entry costs beside its text.
OVERHEAD_BYTES = 300


class LastValues:
    """`bytes`: what it holds, its own costs counted; `evicted`: what had to go."""

    def __init__(self, max_entries: int = 100_000, max_bytes: int = 64 * 1024 * 1024) -> None:
        self.bytes = 0
        self.evicted = 0
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._messages: OrderedDict[str, Message] = OrderedDict()

    def __len__(self) -> int:
        return len(self._messages)

    def put(self, message: Message) -> None:
        """Keep a retained message; an empty one takes its topic's away. One larger than the whole table is not kept."""
        old = self._messages.pop(message.topic, None)
        if old is not None:
            self.bytes -= _size(old)
        if not message.payload:
            return
        size = _size(message)
        if size > self._max_bytes:
            self.evicted += 1
            return
        self._messages[message.topic] = message
        self.bytes += size
        while self.bytes > self._max_bytes or len(self._messages) > self._max_entries:
            _, oldest = self._messages.popitem(last=False)
            self.bytes -= _size(oldest)
            self.evicted += 1

    def get(self, topic: str) -> Message | None:
        return self._messages.get(topic)

    def matching(self, pattern: str) -> Iterator[Message]:
        """Those of the topics that a filter matches, the longest unchanged first. Not to be changed meanwhile."""
        if not pattern.endswith(REST) and ONE not in pattern:
            found = self._messages.get(pattern)
            if found is not None:
                yield found
            return
        for topic, message in self._messages.items():
            if matches(pattern, topic):
                yield message


def _size(message: Message) -> int:
    properties = message.properties
    size = OVERHEAD_BYTES + 2 * len(message.topic) + len(message.payload)
    return size + sum(len(name) + len(value) for name, value in properties.user)
