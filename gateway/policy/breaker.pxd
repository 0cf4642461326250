cimport cython

cdef object _CLOSED, _HALF_OPEN

cdef class CircuitBreaker:
    cdef public object rules, state
    cdef public double since
    cdef public long opened, refused
    cdef list _all, _failed
    cdef long _fails, _min_requests, _probes_left, _proved, _requests, _step, _ticket
    cdef double _failure_share, _probe_again_at, _width_s

    cpdef long admit(self, double now) except -1
    cpdef ended(self, long ticket, bint failed, double now)

    @cython.locals(at=long, count=long, step=long)
    cdef _count(self, bint failed, double now)
