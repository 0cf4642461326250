cimport cython

cdef class Histogram:
    cdef long long[::1] _counts
    cdef public long long count
    cdef public double longest

    @cython.locals(micros=double, bucket=Py_ssize_t)
    cpdef record(self, double seconds)
