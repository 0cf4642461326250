cimport cython

from gateway.forwarding.call cimport Call
from gateway.forwarding.credit cimport Credit
from gateway.forwarding.ending cimport finish, requester_done
from gateway.forwarding.endpoint cimport Endpoint
from gateway.forwarding.flow cimport request_n
from gateway.forwarding.lifecycle cimport Lifecycle
from gateway.forwarding.opening cimport open_request
from gateway.forwarding.outbox cimport Outbox
from gateway.forwarding.stream cimport Stream
from gateway.observe.metrics cimport Counters

cdef int CANCELED, COMPLETE, FAILED, FOLLOWS, IGNORE, METADATA, NEXT, OK
cdef int _CANCEL, _ERROR, _FOLLOWS_COMPLETE, _NEXT_COMPLETE, _PAYLOAD, _REQUEST_N
cdef Py_ssize_t LARGE_ITEM_BYTES
cdef int REQUEST_CHANNEL, REQUEST_FNF, REQUEST_RESPONSE, REQUEST_SERIES, REQUEST_STREAM, REQUEST_UNFINISHED
cdef int REQUESTER_DONE, RESPONDER_DONE, RESPONSE_SERIES


cdef class Connection(Lifecycle):
    cdef public long long bytes_in, frames_in

    @cython.locals(counters=Counters, head=int, kind=int, stream=Stream, stream_id=long)
    cpdef frame_received(self, bytes data, Py_ssize_t start, Py_ssize_t end)

    @cython.locals(behind=bint)
    cpdef bint read(self, object feed, bytes data) except -1

    @cython.locals(outbox=Outbox)
    cdef _response(self, Stream stream, int head, bytes data, Py_ssize_t start, Py_ssize_t end)

    @cython.locals(call=Call, credit=Credit, state=int)
    cdef bint _response_item(self, Stream stream, int head, bytes data, Py_ssize_t start, Py_ssize_t end) except -1

    @cython.locals(follows=int, total=long)
    cdef bint _breaks(self, Stream stream, int head, long size, bint coming) except -1

    @cython.locals(outbox=Outbox, responder=Endpoint, state=int)
    cdef _request_payload(self, Stream stream, int head, bytes data, Py_ssize_t start, Py_ssize_t end)

    @cython.locals(stream=Stream)
    cdef bint _end(self, int kind, long stream_id, bytes data, Py_ssize_t start, Py_ssize_t end) except -1


@cython.locals(at=Py_ssize_t)
cdef bint _torn(bytes data, Py_ssize_t start, Py_ssize_t end)
