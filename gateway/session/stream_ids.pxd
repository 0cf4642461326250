cimport cython

cdef long MAX_STREAM_ID


cdef class StreamIds:
    cdef public long _first, _next

    @cython.locals(stream_id=long)
    cpdef long allocate(self, in_use)

    @cython.locals(stream_id=long)
    cpdef long advance(self)
