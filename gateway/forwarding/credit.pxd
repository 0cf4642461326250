cdef long MAX_REQUEST_N


cdef class Credit:
    cdef public long grants, held, outstanding
    cdef long _granted
    cdef long _window

    cpdef long grant(self, long n, bint congested)
    cpdef long refill(self)
    cpdef narrow(self, long size)
