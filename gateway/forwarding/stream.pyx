# cython: language_level=3, boundscheck=False, wraparound=False
"""The compiled twin of stream.py. Same names, same behaviour.

A twin for two decorators that a .pxd cannot give: streams come and go with every request, so their memory is kept for
the next (a tenth of the node's own time a request), and the garbage collector does not follow them: whoever ends a
stream takes it out of both tables, and a connection that goes ends all of its streams.
"""

cimport cython

from gateway.wire.frames import FrameType

REQUEST_RESPONSE = int(FrameType.REQUEST_RESPONSE)
REQUEST_FNF = int(FrameType.REQUEST_FNF)
REQUEST_STREAM = int(FrameType.REQUEST_STREAM)
REQUEST_CHANNEL = int(FrameType.REQUEST_CHANNEL)

REQUEST_UNFINISHED = 1
REQUESTER_DONE = 2
RESPONDER_DONE = 4
REQUEST_SERIES = 8
RESPONSE_SERIES = 16

cdef int _REQUESTER_DONE = 2


@cython.final
@cython.no_gc
@cython.freelist(256)
cdef class Stream:
    """See stream.py."""


cpdef Stream new_stream(
    int interaction,
    Endpoint requester,
    long requester_id,
    Endpoint responder,
    long responder_id,
    ServiceStats stats,
    double opened_at,
):
    cdef Stream stream = Stream.__new__(Stream)
    stream.interaction = interaction
    stream.requester = requester
    stream.requester_id = requester_id
    stream.responder = responder
    stream.responder_id = responder_id
    stream.stats = stats
    stream.opened_at = opened_at
    stream.state = _REQUESTER_DONE
    return stream
