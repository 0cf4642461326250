"""The bridge to an MQTT broker: a client of it on one side, services and requests of the node's on the other.

`gateway.topics` says which topic is which route; `documents.bridge` is what an operator writes.
"""
