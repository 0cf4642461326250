cimport cython

from gateway.routing.group cimport Group
from gateway.routing.route cimport Route
from gateway.wire.sink cimport FrameSink

cdef long _MASK
cdef int _SCAN_UP_TO
cdef object _LEAST_PENDING, _ROUND_ROBIN


@cython.locals(best=Route, count=Py_ssize_t, index=Py_ssize_t, least=long, owner=FrameSink, pending=long, route=Route, routes=list, turn=long)
cpdef Route pick(Group group, method, random)


@cython.locals(draw=long, first=Py_ssize_t, one=Route, one_draw=long, ones=FrameSink, other=Route, others=FrameSink, second=Py_ssize_t)
cdef Route _better_of_two(Group group, list routes, Py_ssize_t count)
