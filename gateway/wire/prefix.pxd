cimport cython

from gateway.wire.sink cimport FrameSink


cdef class FrameReader:
    cdef bint _done
    cdef bytearray _tail
    cdef bytes _waiting
    cdef Py_ssize_t _at, _at_once, _wanted
    cdef object _on_failure
    cdef FrameSink _sink
    cdef public Py_ssize_t max_frame

    @cython.locals(at=Py_ssize_t, end=Py_ssize_t, left=Py_ssize_t, length=Py_ssize_t, size=Py_ssize_t, tail=bytearray)
    cpdef bint feed(self, bytes data) except -1
