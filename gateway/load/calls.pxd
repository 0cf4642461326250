cimport cython

from gateway.load.endpoint cimport Endpoint
from gateway.load.templates cimport Template

cdef int _PAYLOAD, _ERROR, _REQUEST_N, _NEXT, _COMPLETE, _BURST, _BURSTS
cdef long long _LAST_ID

cdef class Calls(Endpoint):
    cdef public Py_ssize_t in_flight, owed, answer_bytes
    cdef public Template request
    cdef bytearray _block
    cdef public long long next_id
    cdef long long _mask
    cdef long long[::1] _ids
    cdef double[::1] _begun

    cdef _issue(self, Py_ssize_t count)
    @cython.locals(out=bytearray, view="unsigned char *", ids="long long[::1]", begun="double[::1]", slots="long long", size=Py_ssize_t, at=Py_ssize_t, mask="long long", following="long long", slot="long long", masked="long long")
    cdef _issue_chunk(self, Py_ssize_t count)
    @cython.locals(slot="long long")
    cdef bint _ended(self, long long stream_id) except -1
    cdef _refused(self, long long stream_id, bytearray data, Py_ssize_t start, Py_ssize_t end)

cdef class ResponseCalls(Calls):
    cdef Py_ssize_t _answered

    @cython.locals(kind=int, slot="long long")
    cdef _frame(self, long long stream_id, int head, bytearray data, Py_ssize_t start, Py_ssize_t end)
    @cython.locals(answered=Py_ssize_t)
    cdef _turn(self)

cdef class FnfCalls(Calls):
    @cython.locals(sent=Py_ssize_t)
    cpdef pump(self)
    @cython.locals(burst=bytearray, view="unsigned char *", size=Py_ssize_t, at=Py_ssize_t, mask="long long", following="long long", masked="long long")
    cdef bytearray _burst(self)

cdef class StreamCalls(Calls):
    cdef Py_ssize_t _credit, _refill, _items, _over
    cdef Template _more
    cdef long long[::1] _under_way

    @cython.locals(kind=int, slot="long long")
    cdef _frame(self, long long stream_id, int head, bytearray data, Py_ssize_t start, Py_ssize_t end)
    cdef _other(self, int kind, long long stream_id, bytearray data, Py_ssize_t start, Py_ssize_t end)
    cdef _turn(self)

cdef class ChannelCalls(StreamCalls):
    cdef dict _to_send
    cdef Py_ssize_t _items_each
    cdef Template _item, _last
