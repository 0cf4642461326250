"""Who can serve it: tags, the routing table with its indexes, the locator, the balancer.

Reading order: ``tags`` (keys, hints, the RouteId forms), ``route`` (one registration), ``group`` (live candidates),
``queries`` (tag queries kept exact), ``table`` (indexes, generation, events), ``address`` (what a request asks for),
``locator`` (address -> group), ``balancer`` (group -> route).

Pure decisions: no I/O, no clock, no logging; randomness is passed in.
"""
