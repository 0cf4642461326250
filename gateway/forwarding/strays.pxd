cdef int COMPLETE, FOLLOWS
cdef long _MAX_EXCUSED


cdef class Strays:
    cdef public long excused
    cdef long _bytes, _frames
    cdef double _since
    cdef dict _series
