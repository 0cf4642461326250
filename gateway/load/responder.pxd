cimport cython

from gateway.load.endpoint cimport Endpoint
from gateway.load.templates cimport Template

cdef int _RESPONSE, _FNF, _STREAM, _CHANNEL, _REQUEST_N, _PAYLOAD, _CANCEL, _ERROR, _NEXT, _COMPLETE

cdef class Channel:
    cdef public Py_ssize_t owed, allowed, taken
    cdef public bint ended

cdef class Responder(Endpoint):
    cdef public Py_ssize_t items
    cdef Py_ssize_t _credit, _refill, _due_count, _heard, _room
    cdef Template _answer, _item, _grant, _more
    cdef bytearray _block
    cdef long long[::1] _due
    cdef dict _left, _channels

    @cython.locals(kind=int)
    cdef _frame(self, long long stream_id, int head, bytearray data, Py_ssize_t start, Py_ssize_t end)
    cdef _turn(self)
    @cython.locals(count=Py_ssize_t, index=Py_ssize_t, out=bytearray, view="unsigned char *", due="long long[::1]", size=Py_ssize_t, at=Py_ssize_t, mask="long long", masked="long long")
    cdef _answer_due(self)
    @cython.locals(channel=Channel)
    cdef _granted(self, long long stream_id, long long n)
    @cython.locals(channel=Channel)
    cdef _channel_item(self, long long stream_id, int head)
    @cython.locals(count=Py_ssize_t)
    cdef _send_back(self, long long stream_id, Channel channel)
