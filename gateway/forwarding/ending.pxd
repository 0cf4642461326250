cimport cython

from gateway.forwarding.endpoint cimport Endpoint
from gateway.forwarding.plane cimport Plane
from gateway.forwarding.stream cimport Stream
from gateway.observe.metrics cimport ServiceStats

cdef int REQUEST_STREAM, REQUEST_UNFINISHED, REQUESTER_DONE, RESPONDER_DONE


cpdef requester_done(Stream stream)

@cython.locals(plane=Plane, responder=Endpoint, stats=ServiceStats)
cpdef finish(Stream stream, int outcome)
