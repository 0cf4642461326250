cdef class FrameSink:
    cdef public long pending

    cpdef frame_received(self, bytes data, Py_ssize_t start, Py_ssize_t end)
