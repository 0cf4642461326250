cimport cython

from gateway.forwarding.admitting cimport Guard
from gateway.forwarding.choosing cimport Part
from gateway.forwarding.deadlines cimport Due
from gateway.forwarding.decision cimport Decision
from gateway.forwarding.endpoint cimport Endpoint
from gateway.forwarding.governed cimport Governed
from gateway.forwarding.plane cimport Plane
from gateway.forwarding.stream cimport Stream
from gateway.policy.retry_budget cimport RetryAccount
from gateway.routing.route cimport Route

cdef int REQUEST_FNF, REQUEST_RESPONSE, UNKNOWN, WELL, _OK


cdef class Call(Due):
    cdef public int attempt, head, kind
    cdef public bytes kept, metadata
    cdef public long n
    cdef public bint limited
    cdef public long code, requester_id
    cdef public Py_ssize_t size
    cdef public double opened_at, try_s, until
    cdef public tuple been
    cdef public Decision decision
    cdef public Endpoint requester
    cdef public Route route
    cdef public Stream stream
    cdef public Part part
    cdef public Governed governed
    cdef public Guard guard
    cdef public RetryAccount account
    cdef public object trace
    cdef public long ticket

    cpdef came(self, Endpoint requester, long requester_id, int kind, Decision decision, double opened_at, Py_ssize_t size)
    @cython.locals(governed=Governed, guard=Guard, plane=Plane, requester=Endpoint)
    cpdef admit(self)
    cpdef give_up(self)
    cpdef given_up(self)
    @cython.locals(governed=Governed)
    cpdef keep(self, int head, long n, bytes metadata, bytes data)
    cpdef unkeep(self)
    @cython.locals(governed=Governed, now=double, plane=Plane, seconds=double, stream=Stream)
    cpdef tried(self, int verdict)
    @cython.locals(governed=Governed, guard=Guard, now=double)
    cdef _over(self, int verdict, double seconds)
    @cython.locals(account=RetryAccount)
    cdef _settle(self)
    @cython.locals(at=double, plane=Plane)
    cpdef begun(self, Stream stream)
    cpdef passed_on(self)
    cpdef answered(self)
    cpdef bint failed(self, Stream stream, long code, bytes text) except -1
    cpdef bint gone(self, Stream stream) except -1
    cpdef overdue(self)
    @cython.locals(plane=Plane, verdict=int)
    cpdef ended(self, Stream stream, int outcome)
    cpdef forgotten(self)
