cdef class RoutingTable:
    cdef dict _by_id, _by_owner, _by_service, _by_subject, _by_tag
    cdef bint _delivering
    cdef object _events, _listeners, _queries
    cdef public long generation
