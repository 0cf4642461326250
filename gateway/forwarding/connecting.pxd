cimport cython

from gateway.forwarding.call cimport Call
from gateway.forwarding.choosing cimport Part
from gateway.forwarding.credit cimport Credit
from gateway.forwarding.decision cimport Decision
from gateway.forwarding.endpoint cimport Endpoint
from gateway.forwarding.outbox cimport Outbox
from gateway.forwarding.plane cimport Plane
from gateway.forwarding.stream cimport Stream, new_stream
from gateway.observe.metrics cimport Counters, ServiceStats
from gateway.routing.route cimport Route
from gateway.session.stream_ids cimport StreamIds
from gateway.wire.octets cimport cut

cdef int COMPLETE, FOLLOWS, _COMPOSITE
cdef int REQUEST_CHANNEL, REQUEST_FNF, REQUEST_RESPONSE, REQUEST_STREAM, REQUEST_UNFINISHED


@cython.locals(counters=Counters, form=long, ids=StreamIds, left_ms=long, part=Part, plane=Plane, responder_id=long, sent=bytes, stamped=bytes, stats=ServiceStats, stream=Stream, target=Endpoint, traced=bint)
cpdef connect(Endpoint connection, Decision decision, Route route, int kind, int head, long stream_id, long n, bytes metadata, bint varying, long deadline_at, bytes data, Py_ssize_t at, Py_ssize_t end, Call call)

cdef _after_send(Endpoint connection, Outbox outbox)

@cython.locals(sent=bytes)
cpdef bytes stamped_for(Endpoint connection, Decision decision, Endpoint target, bytes metadata, bint varying, long deadline_at, Call call)
