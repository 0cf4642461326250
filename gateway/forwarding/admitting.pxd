cimport cython

from gateway.policy.breaker cimport CircuitBreaker
from gateway.policy.outliers cimport OutlierDetector
from gateway.policy.rates cimport Rates
from gateway.policy.shedding cimport Shedder
from gateway.routing.route cimport Route

cdef int REQUEST_FNF, REQUEST_RESPONSE, UPLINK, _FAILED, _UNKNOWN, _WELL
cdef long _INVALID


cdef class Guard:
    cdef public object adaptive, figures, rules
    cdef public CircuitBreaker breaker
    cdef public OutlierDetector outliers
    cdef public Rates rates
    cdef public Shedder shedder
    cdef bint _by_principal
    cdef public str document
    cdef public long max_pending, max_requests, waiting
    cdef public double returns_at
    cdef object _leave_out
    cdef long _told_limited, _told_opened

    @cython.locals(limit=long, ticket=long)
    cpdef long admit(self, object connection, object decision, int kind, int priority, bint here, double now, object overload) except -1

    @cython.locals(breaker=CircuitBreaker, ticket=long)
    cdef long _pass_breaker(self, int kind, double now) except -1
    @cython.locals(key=str, rates=Rates)
    cdef _spend(self, object connection, object decision, double now)
    @cython.locals(outliers=OutlierDetector)
    cpdef tried(self, Route route, int verdict, double seconds, double now, Py_ssize_t hosts)
    @cython.locals(breaker=CircuitBreaker)
    cpdef over(self, long ticket, int priority, bint here, int kind, int verdict, double seconds, double now)


cpdef int verdict_of(long code)
