cimport cython


cdef class Span:
    cdef public long answers, failures, requests, slow


cdef class Instance:
    cdef public Span before, span
    cdef public object cause
    cdef public long ejections, idle, proving, row
    cdef public bytes key
    cdef public double until


cdef class OutlierDetector:
    cdef public Instance _all
    cdef public dict _instances, ejections, out
    cdef public object latest, rules
    cdef public long _halves, version
    cdef public double _turn_at, returns_at
    cdef double _latency_s
    cdef object __weakref__

    @cython.locals(each=Instance, everybody=Span, span=Span)
    cpdef succeeded(self, bytes key, double seconds, double now, long hosts)

    @cython.locals(each=Instance, span=Span)
    cpdef failed(self, bytes key, double now, long hosts)

    @cython.locals(each=Instance)
    cdef Instance _at_work(self, bytes key, double now)
