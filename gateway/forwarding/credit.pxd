cdef long _REFILL_AT, MAX_REQUEST_N


cdef class Credit:
    cdef public long held, outstanding

    cpdef long grant(self, long n, bint congested)
    cpdef long refill(self)
