cimport cython

from gateway.observe.metrics cimport ServiceStats
from gateway.policy.split cimport Share, Split
from gateway.routing.balancer cimport pick
from gateway.routing.group cimport Group
from gateway.routing.route cimport Route


cdef class Choices:
    cdef public object out
    cdef public long version
    cdef dict _groups, _shares, _splits
    cdef long _generation, _turn


cdef class Part:
    cdef public bytes entry
    cdef public Route fixed
    cdef public Group group
    cdef public object labels, rule, subset
    cdef public ServiceStats stats
    cdef public list tiers
    cdef public bint passes


cdef class Chooser:
    cdef Choices _choices
    cdef Split _split
    cdef bint _leased
    cdef object _address, _key, _method, _name, _random
    cdef long _generation, _version
    cdef Share _share
    cdef public Part mirror, part
    cdef public list parts

    cpdef bint draw_mirror(self)

    @cython.locals(part=Part, split=Split)
    cpdef Route pick(self, object plane)
