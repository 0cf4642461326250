cimport cython

from gateway.forwarding.call cimport Call
from gateway.forwarding.endpoint cimport Endpoint
from gateway.forwarding.plane cimport Plane
from gateway.forwarding.stream cimport Stream
from gateway.observe.metrics cimport ServiceStats

cdef int _CANCELED, _OK
cdef int REQUEST_UNFINISHED, REQUESTER_DONE, RESPONDER_DONE
cdef long WINDOW


cpdef requester_done(Stream stream)

@cython.locals(plane=Plane, requester=Endpoint, responder=Endpoint, stats=ServiceStats, watch=Call)
cpdef finish(Stream stream, int outcome)
