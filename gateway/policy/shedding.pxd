cimport cython


cdef class Shedder:
    cdef public long open
    cdef public list shed
    cdef list _needed, _needed_before, _open
    cdef long _lowest
    cdef double _turn_at

    @cython.locals(needed=long, open_=long)
    cpdef bint admit(self, long priority, long limit, double now) except -1

    @cython.locals(open_=long)
    cpdef ended(self, long priority)

    @cython.locals(kept=long, needed=long)
    cdef long _kept_for(self, long priority) except -1
