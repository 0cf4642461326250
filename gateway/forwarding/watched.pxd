cimport cython

from gateway.forwarding.call cimport Call
from gateway.forwarding.choosing cimport Chooser
from gateway.forwarding.connecting cimport connect
from gateway.forwarding.decision cimport Decision
from gateway.forwarding.endpoint cimport Endpoint
from gateway.forwarding.governed cimport Governed
from gateway.forwarding.plane cimport Plane
from gateway.routing.route cimport Route
from gateway.wire.octets cimport cut

cdef int DOWNLINK, FOLLOWS, REQUEST_FNF, REQUEST_RESPONSE, REQUEST_STREAM
cdef Py_ssize_t MAX_OFFERED_BYTES


@cython.locals(call=Call, governed=Governed, opened_at=double, plane=Plane, route=Route, timeout_s=double)
cpdef open_watched(Endpoint connection, Decision decision, int kind, int head, long stream_id, long n, bytes metadata, bint varying, long deadline_at, bytes data, Py_ssize_t at, Py_ssize_t end, object trace)

cdef bint _may_be_kept(int kind, int head, Py_ssize_t size)

@cython.locals(chooser=Chooser, governed=Governed, route=Route)
cpdef Route choose(Plane plane, Endpoint connection, Decision decision, Call call)
