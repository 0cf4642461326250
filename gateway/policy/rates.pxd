cimport cython


cdef class Bucket:
    cdef public double at, left
    cdef public dict borrowers


cdef class Rates:
    cdef public object rule
    cdef public long limited
    cdef public dict _buckets
    cdef double _burst, _per_s
    cdef public long _sweep_above

    @cython.locals(bucket=Bucket)
    cpdef bint take(self, str key, double now) except -1

    @cython.locals(bucket=Bucket, left=double)
    cdef Bucket _bucket(self, str key, double now)
