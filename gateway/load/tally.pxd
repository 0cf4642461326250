from gateway.load.histogram cimport Histogram

cdef class Tally:
    cdef public bint running, ending
    cdef public long long begun, operations, finished, errors
    cdef public Histogram latencies
    cdef public list owing, texts
    cdef public bytearray buffer
