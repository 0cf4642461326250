cdef class Group:
    cdef public list routes
    cdef public long turn, version
    cdef dict _positions
    cdef object __weakref__
