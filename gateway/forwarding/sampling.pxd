cdef int _COMPOSITE, _LOCAL


cdef class Sampler:
    cdef public object service, tracing
    cdef public double share
    cdef public bint parent_based
    cdef public long long left
    cdef double _log

    cpdef begin(self, bytes metadata, bint varying, int form, int side)
