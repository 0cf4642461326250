cimport cython

from gateway.forwarding.choosing cimport Part
from gateway.forwarding.deadlines cimport Due
from gateway.forwarding.decision cimport Decision
from gateway.forwarding.endpoint cimport Endpoint
from gateway.forwarding.plane cimport Plane
from gateway.forwarding.stream cimport Stream
from gateway.routing.route cimport Route

cdef int REQUEST_FNF


cdef class Call(Due):
    cdef public int attempt, kind
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
    cdef public object account, governed, guard, request, trace
    cdef public long ticket

    @cython.locals(plane=Plane, requester=Endpoint)
    cpdef admit(self)
    cpdef give_up(self)
    cpdef given_up(self)
    cpdef keep(self, object request)
    cpdef unkeep(self)
    cpdef tried(self, int verdict)
    cdef _over(self, int verdict, double seconds)
    cdef _settle(self)
    @cython.locals(at=double, plane=Plane)
    cpdef begun(self, Stream stream)
    cpdef passed_on(self)
    cpdef answered(self)
    cpdef bint failed(self, Stream stream, long code, bytes text) except -1
    cpdef bint gone(self, Stream stream) except -1
    cpdef overdue(self)
    cpdef ended(self, Stream stream, int outcome)
    cpdef forgotten(self)
