cimport cython


cdef class Slot:
    cdef public double at, latency_s
    cdef public int attempt, interaction, verdict
    cdef public bint came, goes, is_reply
    cdef public long long credits, size, stream_id
    cdef public object address, document, labels, node, policy, reason, service, source, spool, subject, subset, trace


cdef class FlowRing:
    cdef public object news, node, view
    cdef public long long first, latest, left_out
    cdef public bint awaited
    cdef object _identity, _monotonic, _wall
    cdef double _offset
    cdef list _slots, _unwanted
    cdef Py_ssize_t _capacity, _next

    @cython.locals(slot=Slot)
    cpdef put(self, int verdict, double at, double latency_s, int interaction, long long stream_id, bint came, bint goes, bint is_reply, long long size, long long credits, int attempt, object source, object service, object subject, object labels, object node, object address, object reason, object policy, object subset, object trace, object spool)

    @cython.locals(at=Py_ssize_t, end="long long", slot=Slot)
    cpdef long long next_wanted(self, long long number, list unwanted, long long most) except -1

    cdef Py_ssize_t _place(self, long long number) except -1
