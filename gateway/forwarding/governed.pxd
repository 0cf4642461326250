from gateway.forwarding.admitting cimport Guard
from gateway.forwarding.choosing cimport Choices, Chooser
from gateway.policy.retry_budget cimport RetryAccount
from gateway.routing.group cimport Group


cdef class ServiceState:
    cdef public Choices choices
    cdef public Guard guard
    cdef public RetryAccount account
    cdef public object faults, mirrors, retries, rules
    cdef public str name


cdef class Governed:
    cdef public Chooser chooser
    cdef public Group candidates
    cdef public ServiceState state
    cdef public bint here
    cdef public int priority
    cdef public object fault, retries, rule
    cdef public double timeout_s, try_s
