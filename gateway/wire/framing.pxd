cdef class FrameBuffer:
    cdef public bint masked, prefixed, untouched
    cdef public Py_ssize_t size
    cdef char* _memory
    cdef Py_ssize_t _capacity, _used, _frames

    cdef char* _room(self, Py_ssize_t length) except NULL
    cpdef put(self, long stream_id, bytes data, Py_ssize_t start, Py_ssize_t end)
    cpdef put_request(self, long stream_id, bytes head, bytes metadata, bytes data, Py_ssize_t start, Py_ssize_t end)
    cpdef put_frame(self, bytes frame)
    cpdef touched(self)
    cpdef bytes take(self)
