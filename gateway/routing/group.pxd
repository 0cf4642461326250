cdef class Group:
    cdef public list routes
    cdef public long turn, version
    cdef public dict _positions
