# cython: language_level=3, boundscheck=False, wraparound=False
"""The compiled twin of octets.py. Same names, same behaviour."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

try:
    from websockets.speedups import apply_mask
except ImportError:
    from websockets.utils import apply_mask


cpdef bytes cut(bytes data, Py_ssize_t start, Py_ssize_t end):
    return PyBytes_FromStringAndSize(PyBytes_AS_STRING(data) + start, end - start)


cpdef bint equal(bytes data, Py_ssize_t start, Py_ssize_t end, bytes other):
    cdef Py_ssize_t length = end - start
    return length == len(other) and memcmp(PyBytes_AS_STRING(data) + start, PyBytes_AS_STRING(other), length) == 0


cpdef bytes id_bytes(long stream_id):
    cdef bytes made = PyBytes_FromStringAndSize(NULL, 4)
    cdef unsigned char* at = <unsigned char*>PyBytes_AS_STRING(made)
    at[0] = (stream_id >> 24) & 0xFF
    at[1] = (stream_id >> 16) & 0xFF
    at[2] = (stream_id >> 8) & 0xFF
    at[3] = stream_id & 0xFF
    return made


cpdef bytes unmask(bytes data, Py_ssize_t start, Py_ssize_t end):
    cdef const unsigned char* source = <const unsigned char*>PyBytes_AS_STRING(data) + start
    cdef uint32_t key
    cdef uint64_t wide, block
    cdef Py_ssize_t length = end - start
    cdef Py_ssize_t at = 0
    cdef bytes made
    cdef unsigned char* target
    memcpy(&key, source - 4, 4)
    if key == 0:
        return None
    made = PyBytes_FromStringAndSize(NULL, length)
    target = <unsigned char*>PyBytes_AS_STRING(made)
    wide = (<uint64_t>key << 32) | key
    while at + 8 <= length:
        memcpy(&block, source + at, 8)
        block ^= wide
        memcpy(target + at, &block, 8)
        at += 8
    while at < length:
        target[at] = source[at] ^ (<const unsigned char*>&key)[at & 3]
        at += 1
    return made
