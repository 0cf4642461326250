cimport cython

from gateway.forwarding.credit cimport Credit
from gateway.forwarding.endpoint cimport Endpoint
from gateway.observe.metrics cimport ServiceStats
from gateway.wire.octets cimport id_bytes


# Untracked by the garbage collector: whoever ends a stream takes it out of both tables, and a connection that goes ends
# all of its streams.
@cython.no_gc
@cython.freelist(256)
cdef class Stream:
    cdef public Credit down, up
    cdef public int interaction, state
    cdef public double opened_at
    cdef public Endpoint requester, responder
    cdef public long requester_id, responder_id
    cdef public bytes requester_prefix, responder_prefix
    cdef public ServiceStats stats


@cython.locals(stream=Stream)
cpdef Stream new_stream(int interaction, Endpoint requester, long requester_id, Endpoint responder, long responder_id, ServiceStats stats, double opened_at)
