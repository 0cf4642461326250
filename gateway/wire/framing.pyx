# cython: language_level=3, boundscheck=False, wraparound=False
"""The compiled twin of framing.py: the frames that wait are one block of memory. Same names, same behaviour."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy

# A block this large is given back when it has been taken; smaller ones too, because most connections are idle.
cdef Py_ssize_t _FIRST = 1024


cdef inline void _write_id(char* at, long stream_id) noexcept:
    at[0] = <char>(stream_id >> 24)
    at[1] = <char>(stream_id >> 16)
    at[2] = <char>(stream_id >> 8)
    at[3] = <char>stream_id


cdef class FrameBuffer:
    """See framing.py."""

    def __init__(self, bint prefixed):
        self.prefixed = prefixed
        self.masked = False
        self.size = 0
        self.untouched = True

    def __dealloc__(self):
        free(self._memory)

    cdef char* _room(self, Py_ssize_t length) except NULL:
        """Make room for a frame of `length` bytes, write its framing, and return where its first byte goes."""
        cdef Py_ssize_t needed = self._used + length + 14
        cdef Py_ssize_t capacity
        cdef unsigned char* at
        cdef unsigned char* header
        cdef int shift
        if needed > self._capacity:
            capacity = _FIRST if self._capacity == 0 else self._capacity
            while capacity < needed:
                capacity *= 2
            at = <unsigned char*>realloc(self._memory, capacity)
            if at == NULL:
                raise MemoryError()
            self._memory = <char*>at
            self._capacity = capacity
        header = at = <unsigned char*>self._memory + self._used
        if self.prefixed:
            at[0] = (length >> 16) & 0xFF
            at[1] = (length >> 8) & 0xFF
            at[2] = length & 0xFF
            at += 3
        else:
            at[0] = 0x82
            if length < 126:
                at[1] = length
                at += 2
            elif length < 65536:
                at[1] = 126
                at[2] = length >> 8
                at[3] = length & 0xFF
                at += 4
            else:
                at[1] = 127
                for shift in range(8):
                    at[2 + shift] = (<unsigned long long>length >> (56 - 8 * shift)) & 0xFF
                at += 10
            if self.masked:
                header[1] |= 0x80
                at[0] = at[1] = at[2] = at[3] = 0
                at += 4
        self._used = <char*>at - self._memory + length
        self._frames += 1
        self.size += length
        return <char*>at

    cpdef put(self, long stream_id, bytes data, Py_ssize_t start, Py_ssize_t end):
        cdef char* at = self._room(end - start + 4)
        _write_id(at, stream_id)
        memcpy(at + 4, PyBytes_AS_STRING(data) + start, end - start)
        if self.untouched:
            self.untouched = False
            self.touched()

    cpdef put_request(self, long stream_id, bytes head, bytes metadata, bytes data, Py_ssize_t start, Py_ssize_t end):
        cdef Py_ssize_t heads = len(head)
        cdef Py_ssize_t middle = len(metadata)
        cdef char* at = self._room(4 + heads + middle + end - start)
        _write_id(at, stream_id)
        memcpy(at + 4, PyBytes_AS_STRING(head), heads)
        memcpy(at + 4 + heads, PyBytes_AS_STRING(metadata), middle)
        memcpy(at + 4 + heads + middle, PyBytes_AS_STRING(data) + start, end - start)
        if self.untouched:
            self.untouched = False
            self.touched()

    cpdef put_frame(self, bytes frame):
        cdef const unsigned char* at = <const unsigned char*>PyBytes_AS_STRING(frame)
        self.put(<long>at[0] << 24 | at[1] << 16 | at[2] << 8 | at[3], frame, 4, len(frame))

    cpdef touched(self):
        raise NotImplementedError

    @property
    def waiting(self):
        return self._used

    @property
    def frames(self):
        return self._frames

    cpdef bytes take(self):
        cdef bytes data = PyBytes_FromStringAndSize(self._memory, self._used)
        free(self._memory)
        self._memory = NULL
        self._capacity = self._used = self._frames = 0
        self.untouched = True
        return data
