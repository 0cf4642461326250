cimport cython

from gateway.observe.metrics cimport Counters
from gateway.wire.framing cimport FrameBuffer


cdef class Flusher:
    cdef list _dirty
    cdef object _schedule
    cdef bint _scheduled

    cpdef touch(self, Outbox outbox)

    @cython.locals(outbox=Outbox)
    cpdef flush(self)


cdef class Outbox(FrameBuffer):
    cdef public FrameBuffer ahead
    cdef public bint blocked, slow
    cdef public double blocked_since, feeders_since
    cdef public object carrier
    cdef public Counters counters
    cdef public set feeders, throttled
    cdef public Flusher flusher
    cdef public Py_ssize_t hard, high, left_when_blocked
    cdef public long long bytes_sent, frames_sent

    cpdef put_first(self, bytes frame)
    cpdef flush(self)
