from gateway.forwarding.credit cimport Credit
from gateway.forwarding.endpoint cimport Endpoint
from gateway.observe.metrics cimport ServiceStats


cdef class Stream:
    cdef public Credit down, up
    cdef public int interaction, state
    cdef public double opened_at
    cdef public Endpoint requester, responder
    cdef public long answering, coming, requester_id, responder_id
    cdef public ServiceStats stats
    cdef public object decision, watch


cpdef Stream new_stream(int interaction, Endpoint requester, long requester_id, Endpoint responder, long responder_id, ServiceStats stats, double opened_at)
