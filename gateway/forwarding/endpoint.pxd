cimport cython

from gateway.forwarding.decision cimport Decision
from gateway.forwarding.outbox cimport Outbox
from gateway.forwarding.plane cimport Plane
from gateway.forwarding.stream_table cimport StreamTable
from gateway.forwarding.strays cimport Strays
from gateway.observe.metrics cimport Counters
from gateway.session.stream_ids cimport StreamIds
from gateway.wire.sink cimport FrameSink

cdef int COMPLETE, FOLLOWS, IGNORE, METADATA, NEXT, _PAYLOAD, _REQUEST_FLAGS, _REQUEST_STREAM
cdef Py_ssize_t MAX_FRAME_BYTES
cdef list _HEADS


cdef class Endpoint(FrameSink):
    cdef public set paused_by
    cdef public bint accepted, asking_again, by_device, closed, draining
    cdef public object avoided, assembly, budgets, carrier, grant, granted, held, place, retried
    cdef public Counters counters
    cdef public dict awaiting, decisions, offered, partials
    cdef public StreamTable requesting, serving
    cdef public long form, max_streams, min_fragment, rate
    cdef public double asked_at, held_since, look_at, tokens, tokens_at
    cdef public StreamIds ids
    cdef public Outbox outbox
    cdef public int peer_parity, side
    cdef public Plane plane
    cdef public bytes latest_metadata, stamp
    cdef public Decision latest
    cdef public Strays strays
    cdef object __weakref__

    @cython.locals(flags=int, rest=bytes, room=Py_ssize_t, start=bytes)
    cpdef send_request(self, long stream_id, int kind, int head, long n, bytes metadata, bytes data, Py_ssize_t at, Py_ssize_t end)
    cpdef pause_for(self, Outbox outbox)
