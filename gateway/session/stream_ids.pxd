cdef long MAX_STREAM_ID


cdef class StreamIds:
    cdef public long _first, _next

    cpdef long allocate(self, in_use)
