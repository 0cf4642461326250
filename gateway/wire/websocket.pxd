cimport cython

from gateway.wire.octets cimport unmask
from gateway.wire.sink cimport FrameSink


cdef class MessageReader:
    cdef bint _done
    cdef bytes _waiting
    cdef list _fragments
    cdef bytearray _tail
    cdef Py_ssize_t _at, _at_once, _fragments_bytes, _key_bytes, _wanted
    cdef int _mask_bit
    cdef object _on_close, _on_failure, _on_ping, _on_pong
    cdef FrameSink _sink
    cdef public Py_ssize_t max_fragments, max_message
    cdef public str limit_broken

    @cython.locals(after=Py_ssize_t, at=Py_ssize_t, body=Py_ssize_t, end=Py_ssize_t, left=Py_ssize_t, length=Py_ssize_t, payload=bytes, size=Py_ssize_t, tail=bytearray)
    cpdef bint feed(self, bytes data) except -1

    cdef Py_ssize_t _slow(self, bytes data, Py_ssize_t at, Py_ssize_t size) except -2
