cpdef bytes cut(bytes data, Py_ssize_t start, Py_ssize_t end)
cpdef bint equal(bytes data, Py_ssize_t start, Py_ssize_t end, bytes other)
cpdef bytes id_bytes(long stream_id)
cpdef bytes unmask(bytes data, Py_ssize_t start, Py_ssize_t end)
