cimport cython

cdef long _MASK, _STEP


cdef class Split:
    cdef list _bounds
    cdef long _last, _state

    @cython.locals(draw=long)
    cpdef long draw(self)

    @cython.locals(bound=long, index=long)
    cpdef long at(self, long point)


cdef class Share:
    cdef long _bound, _state

    @cython.locals(draw=long)
    cpdef bint draw(self)
