cimport cython

from gateway.routing.group cimport Group
from gateway.routing.route cimport Route

cdef int _SCAN_UP_TO
cdef object _LEAST_PENDING, _ROUND_ROBIN


@cython.locals(best=Route, count=Py_ssize_t, index=Py_ssize_t, least=long, pending=long, route=Route, routes=list, turn=long)
cpdef Route pick(Group group, method, random)


@cython.locals(first=Py_ssize_t, one=Route, other=Route, second=Py_ssize_t)
cdef Route _better_of_two(list routes, Py_ssize_t count, random)
