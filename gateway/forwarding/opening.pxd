cimport cython

from gateway.forwarding.connecting cimport connect
from gateway.forwarding.decision cimport Decision
from gateway.forwarding.endpoint cimport Endpoint
from gateway.forwarding.plane cimport Plane
from gateway.forwarding.sampling cimport Sampler
from gateway.forwarding.watched cimport open_watched
from gateway.routing.route cimport Route
from gateway.wire.octets cimport cut, equal

cdef int COMPLETE, FOLLOWS, IGNORE, METADATA, _FOLLOWS_COMPLETE
cdef int REQUEST_CHANNEL, REQUEST_FNF, REQUEST_STREAM
cdef long MAX_REQUEST_N


@cython.locals(at=Py_ssize_t, body=Py_ssize_t, latest=bytes, metadata=bytes, n=long)
cpdef open_request(Endpoint connection, int kind, int head, long stream_id, bytes data, Py_ssize_t start, Py_ssize_t end)

@cython.locals(deadline_at=long, decision=Decision, plane=Plane, route=Route, sampler=Sampler, varying=bint)
cdef _open(Endpoint connection, int kind, int head, long stream_id, long n, bytes metadata, bytes data, Py_ssize_t at, Py_ssize_t end)
