from gateway.forwarding.plane cimport Plane
from gateway.observe.metrics cimport ServiceStats
from gateway.routing.balancer cimport pick
from gateway.routing.group cimport Group
from gateway.forwarding.sampling cimport Sampler
from gateway.routing.route cimport Route


cdef class Decision:
    cdef public object address, governed, hashed, identity, method, shard_key, subset, tags
    cdef public dict variants
    cdef public int interaction
    cdef public Sampler sampler
    cdef public ServiceStats stats
    cdef public long generation
    cdef public bint leased, multicast, noted, posted, told
    cdef public list sections
    cdef Group _candidates, _group
    cdef long _version
    cdef bint _follows

    cpdef Route pick(self, Plane plane)
