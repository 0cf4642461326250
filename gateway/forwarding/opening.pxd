cimport cython

from gateway.forwarding.decision cimport Decision
from gateway.forwarding.endpoint cimport Endpoint
from gateway.forwarding.outbox cimport Outbox
from gateway.forwarding.plane cimport Plane
from gateway.forwarding.stream cimport Stream, new_stream
from gateway.observe.metrics cimport Counters, ServiceStats
from gateway.routing.route cimport Route
from gateway.session.stream_ids cimport StreamIds
from gateway.wire.octets cimport cut, equal

cdef int COMPLETE, FOLLOWS, IGNORE, METADATA, _FOLLOWS_COMPLETE
cdef int REQUEST_CHANNEL, REQUEST_FNF, REQUEST_RESPONSE, REQUEST_STREAM, REQUEST_UNFINISHED
cdef long MAX_REQUEST_N


@cython.locals(at=Py_ssize_t, body=Py_ssize_t, latest=bytes, metadata=bytes, n=long)
cpdef open_request(Endpoint connection, int kind, int head, long stream_id, bytes data, Py_ssize_t start, Py_ssize_t end)

@cython.locals(counters=Counters, deadline_at=long, decision=Decision, form=long, ids=StreamIds, plane=Plane, responder_id=long, route=Route, sent=bytes, stamped=bytes, stats=ServiceStats, stream=Stream, target=Endpoint, varying=bint)
cdef _open(Endpoint connection, int kind, int head, long stream_id, long n, bytes metadata, bytes data, Py_ssize_t at, Py_ssize_t end)

cdef _after_send(Endpoint connection, Outbox outbox)
