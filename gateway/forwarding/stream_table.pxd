cdef class StreamTable:
    cdef long* _ids
    cdef list _streams
    cdef Py_ssize_t _capacity, _count

    cdef Py_ssize_t _slot(self, long stream_id) except -2
    cdef _resize(self, Py_ssize_t capacity)
    cpdef find(self, long stream_id)
    cpdef insert(self, long stream_id, stream)
    cpdef discard(self, long stream_id)
