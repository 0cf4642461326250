cimport cython

cdef double _SLOT_S
cdef long long _MASK, _NEVER, _SHIFT, _SLOTS


cdef class Due:
    cdef public long long tick
    cdef Due _after, _before

    cpdef overdue(self)


cdef class Deadlines:
    cdef object _clock, _later, _timer
    cdef list _near
    cdef dict _far
    cdef long long _armed, _done
    cdef Py_ssize_t _count

    @cython.locals(began=cython.longlong, first=cython.longlong, tick=cython.longlong)
    cpdef put(self, Due due, double at, double now)

    cpdef take(self, Due due)

    @cython.locals(first=Due, tick=cython.longlong)
    cdef _hang(self, Due due)

    @cython.locals(after=Due, before=Due, tick=cython.longlong)
    cdef _unhang(self, Due due)

    @cython.locals(wait_s=double)
    cdef _arm(self, long long tick, double now)

    @cython.locals(after=Due, due=Due)
    cdef _draw_near(self, long long block)

    @cython.locals(due=Due)
    cdef _tell(self, long long tick)

    @cython.locals(end=cython.longlong, far=cython.longlong, near=list)
    cdef long long _first(self, long long tick) except -1
