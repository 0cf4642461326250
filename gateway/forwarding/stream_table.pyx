# cython: language_level=3, boundscheck=False, wraparound=False
"""The compiled twin of stream_table.py. Same names, same behaviour.

Open addressing with linear probing. The ids of one side grow by two, so half the id is the slot, and neighbours in time
are neighbours in memory. Id 0 belongs to no stream and marks a free slot. The streams are in a list beside the ids, so
that the garbage collector sees them.
"""

from libc.stdlib cimport calloc, free

cdef Py_ssize_t _SMALLEST = 8
# A table that has grown past this is given back when it is empty; smaller ones would be made again at once.
cdef Py_ssize_t _LARGE = 512


cdef class StreamTable:
    """See stream_table.py."""

    def __dealloc__(self):
        free(self._ids)

    cdef Py_ssize_t _slot(self, long stream_id) except -2:
        """Where the id is, or -1."""
        cdef Py_ssize_t at
        if self._count == 0 or stream_id <= 0:
            return -1
        at = (stream_id >> 1) & (self._capacity - 1)
        while self._ids[at] != 0:
            if self._ids[at] == stream_id:
                return at
            at = (at + 1) & (self._capacity - 1)
        return -1

    cdef _resize(self, Py_ssize_t capacity):
        cdef long* old_ids = self._ids
        cdef list old_streams = self._streams
        cdef Py_ssize_t old_capacity = self._capacity
        cdef Py_ssize_t at, to
        cdef long* ids = <long*>calloc(capacity, sizeof(long))
        if ids == NULL:
            raise MemoryError()
        self._streams = [None] * capacity
        self._ids = ids
        self._capacity = capacity
        for at in range(old_capacity):
            if old_ids[at] != 0:
                to = (old_ids[at] >> 1) & (capacity - 1)
                while ids[to] != 0:
                    to = (to + 1) & (capacity - 1)
                ids[to] = old_ids[at]
                self._streams[to] = old_streams[at]
        free(old_ids)

    cpdef find(self, long stream_id):
        cdef Py_ssize_t at = self._slot(stream_id)
        return None if at < 0 else self._streams[at]

    cpdef insert(self, long stream_id, stream):
        cdef Py_ssize_t at = self._slot(stream_id)
        if stream_id <= 0:
            raise ValueError(f"stream id {stream_id} is no stream's")
        if at < 0:
            if (self._count + 1) * 2 > self._capacity:
                self._resize(self._capacity * 2 if self._capacity else _SMALLEST)
            at = (stream_id >> 1) & (self._capacity - 1)
            while self._ids[at] != 0:
                at = (at + 1) & (self._capacity - 1)
            self._ids[at] = stream_id
            self._count += 1
        self._streams[at] = stream

    cpdef discard(self, long stream_id):
        cdef Py_ssize_t hole = self._slot(stream_id)
        cdef Py_ssize_t at, home, mask
        if hole < 0:
            raise KeyError(stream_id)
        mask = self._capacity - 1
        self._count -= 1
        at = hole
        while True:
            # What was pushed past the hole moves back into it, so that no search ends too early.
            at = (at + 1) & mask
            if self._ids[at] == 0:
                break
            home = (self._ids[at] >> 1) & mask
            if ((at - home) & mask) >= ((at - hole) & mask):
                self._ids[hole] = self._ids[at]
                self._streams[hole] = self._streams[at]
                hole = at
        self._ids[hole] = 0
        self._streams[hole] = None
        if self._count == 0 and self._capacity > _LARGE:
            free(self._ids)
            self._ids = NULL
            self._streams = None
            self._capacity = 0

    def __len__(self):
        return self._count

    def __contains__(self, stream_id):
        return self._slot(stream_id) >= 0

    def __getitem__(self, stream_id):
        cdef Py_ssize_t at = self._slot(stream_id)
        if at < 0:
            raise KeyError(stream_id)
        return self._streams[at]

    def __setitem__(self, stream_id, stream):
        self.insert(stream_id, stream)

    def __delitem__(self, stream_id):
        self.discard(stream_id)

    def get(self, stream_id, default=None):
        cdef Py_ssize_t at = self._slot(stream_id)
        return default if at < 0 else self._streams[at]

    def __iter__(self):
        return iter([self._ids[at] for at in range(self._capacity) if self._ids[at] != 0])

    def keys(self):
        return list(self)

    def values(self):
        return [self._streams[at] for at in range(self._capacity) if self._ids[at] != 0]

    def items(self):
        return [(self._ids[at], self._streams[at]) for at in range(self._capacity) if self._ids[at] != 0]
