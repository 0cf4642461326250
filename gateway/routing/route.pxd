cdef class Route:
    cdef public bytes route_id
    cdef public object owner, tags
    cdef public str service, subject
