cimport cython

from gateway.forwarding.call cimport Call
from gateway.forwarding.decision cimport Decision
from gateway.forwarding.endpoint cimport Endpoint
from gateway.forwarding.plane cimport Plane
from gateway.forwarding.stream cimport Stream
from gateway.observe.flows cimport FlowRing
from gateway.routing.route cimport Route


cdef int _ERROR, _FAILED, _FNF, _FORWARDED, _LOCAL, _OK


@cython.locals(came=bint, credits="long long", decision=Decision, goes=bint, is_reply=bint, plane=Plane, requester=Endpoint, responder=Endpoint, route=Route, verdict=int)
cpdef ended(FlowRing ring, Call call, Stream stream, int outcome)
