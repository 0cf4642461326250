cimport cython

cdef class Template:
    cdef public bytes message
    cdef public Py_ssize_t size, id_at, chunk
    cdef public long long id_mask

    @cython.locals(message=bytearray, masked="long long", at=Py_ssize_t)
    cpdef bytearray addressed(self, long long stream_id)
