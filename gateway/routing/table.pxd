cdef class RoutingTable:
    cdef public dict _by_id, _by_owner, _by_service, _by_subject, _by_tag
    cdef public bint _delivering
    cdef public object _events, _listeners, _queries
    cdef public long generation
    cdef public dict unnarrowed
