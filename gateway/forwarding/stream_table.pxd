from cpython.ref cimport PyObject


cdef struct Entry:
    long id
    PyObject* stream


cdef class StreamTable:
    cdef Entry* _entries
    cdef Py_ssize_t _capacity, _count

    cdef Py_ssize_t _slot(self, long stream_id) noexcept
    cdef void _place(self, long stream_id, PyObject* stream) noexcept
    cdef _resize(self, Py_ssize_t capacity)
    cpdef find(self, long stream_id)
    cpdef insert(self, long stream_id, stream)
    cpdef discard(self, long stream_id)
