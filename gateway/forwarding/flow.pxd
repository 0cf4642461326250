cimport cython

from gateway.forwarding.credit cimport Credit
from gateway.forwarding.endpoint cimport Endpoint
from gateway.forwarding.stream cimport Stream

cdef long MAX_REQUEST_N


@cython.locals(credit=Credit, n=long, its_id=long, passed=long, producer=Endpoint, stream=Stream)
cpdef bint request_n(Endpoint connection, long stream_id, bytes data, Py_ssize_t start, Py_ssize_t end) except -1
