from gateway.forwarding.endpoint cimport Endpoint


cdef class Lifecycle(Endpoint):
    cdef public object credential, kind, peer, principal, reached, resumption, session
    cdef public long number
    cdef public double opened_at

    cpdef tick(self, double now, double wall)
