from gateway.forwarding.deadlines cimport Deadlines
from gateway.forwarding.outbox cimport Flusher
from gateway.observe.flows cimport FlowRing
from gateway.observe.metrics cimport Counters
from gateway.routing.table cimport RoutingTable


cdef class Plane:
    cdef public Counters counters
    cdef public Deadlines deadlines
    cdef public FlowRing flows
    cdef public Flusher flusher
    cdef public RoutingTable table
    cdef public bint draining, observing
    cdef public double now
    cdef public object balancing, governance, governor, intake, judgement, later, links, metrics, mirrors, monotonic, multicast, nobody, node, nowhere
    cdef public object node_id, overload, parked, random, register, role, snapshot, soundings, tracing, wall
    cdef public dict connections
    cdef public dict _stats
    cdef public long _opened
    cdef dict __dict__

    cpdef double wake(self)
