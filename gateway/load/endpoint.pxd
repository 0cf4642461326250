cimport cython

from gateway.load.tally cimport Tally
from gateway.load.templates cimport Template

cdef int _BINARY, _PING, _PONG, _CLOSE, _KEEPALIVE, _ERROR
cdef Py_ssize_t _SMALL_BYTES, _CHUNK_BYTES

cdef class Endpoint:
    cdef public Tally tally
    cdef public object framing, transport
    cdef public bint prefixed, blocked
    cdef public double now
    cdef object _write
    cdef bytes _tail
    cdef bytearray _buffer, _out

    cpdef get_buffer(self, Py_ssize_t sizehint)
    @cython.locals(size=Py_ssize_t, at=Py_ssize_t, data=bytearray)
    cpdef buffer_updated(self, Py_ssize_t count)
    cpdef begin(self)
    cdef _frame(self, long long stream_id, int head, bytearray data, Py_ssize_t start, Py_ssize_t end)
    cdef _turn(self)
    @cython.locals(view="const unsigned char *", at=Py_ssize_t, length=Py_ssize_t, body=Py_ssize_t, end=Py_ssize_t)
    cdef Py_ssize_t _cut_messages(self, bytearray data, Py_ssize_t size) except -1
    @cython.locals(view="const unsigned char *", at=Py_ssize_t, body=Py_ssize_t, end=Py_ssize_t)
    cdef Py_ssize_t _cut_prefixed(self, bytearray data, Py_ssize_t size) except -1
    @cython.locals(view="const unsigned char *", stream_id="long long", head=int)
    cdef _take(self, bytearray data, Py_ssize_t start, Py_ssize_t end)
    @cython.locals(message=bytearray)
    cdef _put(self, Template template, long long stream_id, Py_ssize_t count)
    cdef _gather(self, bytearray messages)
    @cython.locals(out=bytearray)
    cdef _flush(self)
