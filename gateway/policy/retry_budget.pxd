cimport cython

cdef double _SAVED


cdef class RetryAccount:
    cdef double _saved, _share
    cdef long _few
    cdef public long open, retrying

    cpdef begin(self)

    cpdef end(self, bint retried)

    @cython.locals(first=long, retrying=long)
    cpdef bint take(self, bint retried) except -1
