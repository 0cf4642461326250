cimport cython

from gateway.wire.sink cimport FrameSink


cdef class FrameReader:
    cdef bint _done
    cdef bytearray _tail
    cdef Py_ssize_t _wanted
    cdef object _on_failure
    cdef FrameSink _sink
    cdef public Py_ssize_t max_frame

    @cython.locals(at=Py_ssize_t, end=Py_ssize_t, length=Py_ssize_t, size=Py_ssize_t, tail=bytearray)
    cpdef feed(self, bytes data)
