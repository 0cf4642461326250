# cython: language_level=3, boundscheck=False, wraparound=False
"""The compiled twin of stream_table.py. Same names, same behaviour.

Open addressing with linear probing. The ids of one side grow by two, so half the id is the slot, and neighbours in time
are neighbours in memory: what is in flight is one dense run. So entries are kept in the order of their home slots
(Robin Hood hashing), and a search or a removal ends at the first entry that sits at home, not at the end of the run.
Id 0 belongs to no stream and marks a free slot. The garbage collector does not see the streams; it knows of none
(stream.pxd).
"""

from cpython.ref cimport Py_DECREF, Py_INCREF, PyObject
from libc.stdlib cimport calloc, free

cdef Py_ssize_t _SMALLEST = 8
# A table that has grown past this is given back when it is empty; smaller ones would be made again at once.
cdef Py_ssize_t _LARGE = 512


cdef class StreamTable:
    """See stream_table.py."""

    def __dealloc__(self):
        cdef Py_ssize_t at
        for at in range(self._capacity):
            if self._entries[at].id != 0:
                Py_DECREF(<object>self._entries[at].stream)
        free(self._entries)

    cdef Py_ssize_t _slot(self, long stream_id) noexcept:
        """Where the id is, or -1."""
        cdef Py_ssize_t mask = self._capacity - 1
        cdef Py_ssize_t at, far = 0
        cdef long there
        if self._count == 0 or stream_id <= 0:
            return -1
        at = (stream_id >> 1) & mask
        while True:
            there = self._entries[at].id
            if there == stream_id:
                return at
            # Whoever is nearer its home than we would be here came after us, if we were there at all.
            if there == 0 or ((at - (there >> 1)) & mask) < far:
                return -1
            at = (at + 1) & mask
            far += 1

    cdef void _place(self, long stream_id, PyObject* stream) noexcept:
        """Enter an id that is not there, with a reference that is the table's already."""
        cdef Py_ssize_t mask = self._capacity - 1
        cdef Py_ssize_t at = (stream_id >> 1) & mask
        cdef Py_ssize_t far = 0, its
        cdef Entry displaced
        while self._entries[at].id != 0:
            its = (at - (self._entries[at].id >> 1)) & mask
            if its < far:
                displaced = self._entries[at]
                self._entries[at].id = stream_id
                self._entries[at].stream = stream
                stream_id = displaced.id
                stream = displaced.stream
                far = its
            at = (at + 1) & mask
            far += 1
        self._entries[at].id = stream_id
        self._entries[at].stream = stream

    cdef _resize(self, Py_ssize_t capacity):
        cdef Entry* old = self._entries
        cdef Py_ssize_t size = self._capacity
        cdef Py_ssize_t at
        cdef Entry* entries = <Entry*>calloc(capacity, sizeof(Entry))
        if entries == NULL:
            raise MemoryError()
        self._entries = entries
        self._capacity = capacity
        for at in range(size):
            if old[at].id != 0:
                self._place(old[at].id, old[at].stream)
        free(old)

    cpdef find(self, long stream_id):
        cdef Py_ssize_t at = self._slot(stream_id)
        return None if at < 0 else <object>self._entries[at].stream

    cpdef insert(self, long stream_id, stream):
        if stream_id <= 0:
            raise ValueError(f"stream id {stream_id} is no stream's")
        if (self._count + 1) * 2 > self._capacity:
            self._resize(self._capacity * 2 if self._capacity else _SMALLEST)
        Py_INCREF(stream)
        self._place(stream_id, <PyObject*>stream)
        self._count += 1

    cpdef discard(self, long stream_id):
        cdef Py_ssize_t hole = self._slot(stream_id)
        cdef Py_ssize_t mask, after
        cdef PyObject* gone
        if hole < 0:
            raise KeyError(stream_id)
        mask = self._capacity - 1
        gone = self._entries[hole].stream
        while True:
            # What was pushed past the hole moves back by one, as far as something was pushed.
            after = (hole + 1) & mask
            if self._entries[after].id == 0 or (((self._entries[after].id >> 1) - after) & mask) == 0:
                break
            self._entries[hole] = self._entries[after]
            hole = after
        self._entries[hole].id = 0
        self._entries[hole].stream = NULL
        self._count -= 1
        if self._count == 0 and self._capacity > _LARGE:
            free(self._entries)
            self._entries = NULL
            self._capacity = 0
        # Last: letting go may run code that looks here.
        Py_DECREF(<object>gone)

    def __len__(self):
        return self._count

    def __contains__(self, stream_id):
        return self._slot(stream_id) >= 0

    def __getitem__(self, stream_id):
        cdef Py_ssize_t at = self._slot(stream_id)
        if at < 0:
            raise KeyError(stream_id)
        return <object>self._entries[at].stream

    def __setitem__(self, stream_id, stream):
        if self._slot(stream_id) >= 0:
            self.discard(stream_id)
        self.insert(stream_id, stream)

    def __delitem__(self, stream_id):
        self.discard(stream_id)

    def get(self, stream_id, default=None):
        cdef Py_ssize_t at = self._slot(stream_id)
        return default if at < 0 else <object>self._entries[at].stream

    def __iter__(self):
        return iter([self._entries[at].id for at in range(self._capacity) if self._entries[at].id != 0])

    def keys(self):
        return list(self)

    def values(self):
        return [<object>self._entries[at].stream for at in range(self._capacity) if self._entries[at].id != 0]

    def items(self):
        return [
            (self._entries[at].id, <object>self._entries[at].stream)
            for at in range(self._capacity)
            if self._entries[at].id != 0
        ]
