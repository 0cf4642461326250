"""Load for any RSocket broker: both ends of each interaction model, in one process and one loop.

What `gateway bench` runs. `run.measure` is one run of one shape, `arrivals` connects and reconnects; `endpoint`,
`calls` and `responder` are what one connection does with its bytes and can be compiled. Knows the wire, not the node:
the same load goes against anything that speaks RSocket over WebSocket or TCP.
"""
