cimport cython

from gateway.routing.route cimport Route

cdef int REQUEST_FNF, REQUEST_RESPONSE, _FAILED, _UNKNOWN, _WELL
cdef long _INVALID


cdef class Guard:
    cdef public object adaptive, breaker, figures, outliers, rates, rules, shedder
    cdef public str document
    cdef public long max_pending, max_requests, waiting
    cdef public double returns_at
    cdef object _leave_out
    cdef long _told_limited, _told_opened

    @cython.locals(limit=long, ticket=long)
    cpdef long admit(self, object connection, object decision, int kind, int priority, bint here, double now, object overload) except -1

    @cython.locals(ticket=long)
    cdef long _pass_breaker(self, int kind, double now) except -1
    cdef _spend(self, object connection, object decision, double now)
    cpdef tried(self, Route route, int verdict, double seconds, double now, Py_ssize_t hosts)
    cpdef over(self, long ticket, int priority, bint here, int kind, int verdict, double seconds, double now)


cpdef int verdict_of(long code)
