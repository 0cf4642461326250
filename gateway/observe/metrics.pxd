cimport cython


cdef class Counters:
    cdef public dict connections_opened, connections_open, closes, configurations, refusals, resumes_refused, spans, tokens_refused
    cdef public long long bytes_in, bytes_out, fire_and_forget, frames_in, frames_out, ignored_frames, keepalives
    cdef public long long request_channel, request_response, request_stream, sessions_parked, sessions_resumed, streams_open


cdef class Durations:
    cdef public list buckets
    cdef public double sum_seconds

    @cython.locals(bucket=Py_ssize_t, micros=double)
    cpdef observe(self, double seconds)


cdef class ServiceStats(Durations):
    cdef public long long canceled, failed, ok, refused, requests
