/* The floor: what forwarding costs when nothing is checked.
 *
 *     relay PORT
 *
 * One process, one epoll loop, RSocket over WebSocket on 127.0.0.1. A connection whose SETUP holds a broker frame serves;
 * every request goes to the next of those in turn, and whatever follows on its stream follows it. Stream ids are
 * rewritten, KEEPALIVE is answered, and each connection is written to once a turn of the loop. There is no token, no
 * route, no limit, no counter; it only stops reading from whoever feeds a connection that does not take its bytes.
 *
 * Built and run by `python -m bench`.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MAX_PEERS = 65536, STREAMS = 16384, READ_ROOM = 2048, HIGH_WATER = 1 << 22, EVENTS = 512 };
enum { SETUP = 0x01, KEEPALIVE = 0x03, FIRST_REQUEST = 0x04, LAST_REQUEST = 0x07 };

struct buffer { uint8_t *bytes; size_t start, end, room; };
struct hop { struct peer *to; uint32_t id, own_id; };
struct peer {
    int fd;
    bool upgraded, serves, touched, paused;
    uint32_t next_id;
    struct buffer in, out;
    struct hop *hops; /* by stream id, the newest wins */
};

static struct peer *servers[MAX_PEERS], *touched[MAX_PEERS], *paused[MAX_PEERS];
static size_t server_count, touched_count, paused_count, turn, full;
static int poll_fd;

static void *grown(void *memory, size_t bytes) {
    void *more = realloc(memory, bytes);
    if (!more) { perror("relay"); exit(1); }
    return more;
}

static uint8_t *room(struct buffer *buffer, size_t wanted) {
    if (buffer->start == buffer->end) buffer->start = buffer->end = 0;
    if (buffer->room - buffer->end < wanted && buffer->start) {
        memmove(buffer->bytes, buffer->bytes + buffer->start, buffer->end - buffer->start);
        buffer->end -= buffer->start;
        buffer->start = 0;
    }
    if (buffer->room - buffer->end < wanted)
        buffer->bytes = grown(buffer->bytes, buffer->room = (buffer->end + wanted) * 2);
    return buffer->bytes + buffer->end;
}

static void listen_to(struct peer *peer, int operation, bool reads) {
    struct epoll_event event = {.events = reads ? EPOLLIN : 0, .data.ptr = peer};
    epoll_ctl(poll_fd, operation, peer->fd, &event);
}

static void put(struct peer *peer, const uint8_t *frame, size_t length) {
    uint8_t *at = room(&peer->out, length + 10);
    *at++ = 0x82;
    if (length < 126) {
        *at++ = length;
    } else if (length < 65536) {
        *at++ = 126; *at++ = length >> 8; *at++ = length;
    } else {
        *at++ = 127;
        for (int shift = 56; shift >= 0; shift -= 8) *at++ = (uint64_t)length >> shift;
    }
    memcpy(at, frame, length);
    peer->out.end = at + length - peer->out.bytes;
    if (!peer->touched) { peer->touched = true; touched[touched_count++] = peer; }
}

static struct hop *hop(struct peer *peer, uint32_t id) {
    if (!peer->hops && !(peer->hops = calloc(STREAMS, sizeof *peer->hops))) { perror("relay"); exit(1); }
    return &peer->hops[id >> 1 & (STREAMS - 1)];
}

static void forward(struct peer *from, uint8_t *frame, size_t length) {
    uint32_t id = (uint32_t)frame[0] << 24 | frame[1] << 16 | frame[2] << 8 | frame[3];
    int type = frame[4] >> 2;
    if (!id) {
        if (type == SETUP && memmem(frame, length, "rsocket.broker.frame", 20)) {
            from->serves = true;
            servers[server_count++] = from;
        } else if (type == KEEPALIVE && frame[5] & 0x80) {
            frame[5] &= 0x7F;
            put(from, frame, length);
        }
        return;
    }
    struct hop *known = hop(from, id);
    if (type >= FIRST_REQUEST && type <= LAST_REQUEST) {
        if (!server_count) return;
        struct peer *server = servers[turn++ % server_count];
        *known = (struct hop){server, server->next_id, id};
        *hop(server, server->next_id) = (struct hop){from, id, server->next_id};
        server->next_id += 2;
    }
    if (!known->to || known->own_id != id) return;
    uint32_t to = htonl(known->id);
    memcpy(frame, &to, 4);
    put(known->to, frame, length);
    if (known->to->out.end - known->to->out.start > HIGH_WATER && !from->paused) {
        from->paused = true;
        paused[paused_count++] = from;
        listen_to(from, EPOLL_CTL_MOD, false);
    }
}

/* Returns how many bytes were whole messages. */
static size_t cut(struct peer *from, uint8_t *data, size_t size) {
    size_t at = 0;
    while (size - at >= 6) {
        uint8_t *message = data + at;
        size_t length = message[1] & 0x7F, header = 6;
        if (length == 126) {
            header = 8;
            if (size - at < header) break;
            length = (size_t)message[2] << 8 | message[3];
        } else if (length == 127) {
            header = 14;
            if (size - at < header) break;
            length = 0;
            for (int byte = 2; byte < 10; byte++) length = length << 8 | message[byte];
        }
        if (size - at - header < length) break;
        uint8_t *frame = message + header, *mask = frame - 4;
        for (size_t byte = 0; byte < length; byte++) frame[byte] ^= mask[byte & 3];
        at += header + length;
        if ((message[0] & 0x0F) == 2 && length >= 6) forward(from, frame, length);
    }
    return at;
}

static void upgrade(struct peer *peer) {
    static const char answer[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                                 "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    uint8_t *start = peer->in.bytes + peer->in.start;
    uint8_t *end = memmem(start, peer->in.end - peer->in.start, "\r\n\r\n", 4);
    if (!end) return;
    peer->upgraded = true;
    peer->in.start += end + 4 - start;
    memcpy(room(&peer->out, sizeof answer), answer, sizeof answer - 1);
    peer->out.end += sizeof answer - 1;
    if (!peer->touched) { peer->touched = true; touched[touched_count++] = peer; }
}

static void without(struct peer **list, size_t *count, struct peer *peer) {
    size_t kept = 0;
    for (size_t index = 0; index < *count; index++)
        if (list[index] != peer) list[kept++] = list[index];
    *count = kept;
}

/* Its memory stays: hops of others may point at it. A benchmark opens few enough connections. */
static void gone(struct peer *peer) {
    close(peer->fd);
    peer->fd = -1;
    without(servers, &server_count, peer);
    without(paused, &paused_count, peer);
    without(touched, &touched_count, peer);
    free(peer->in.bytes);
    free(peer->out.bytes);
    free(peer->hops);
    peer->hops = NULL;
    peer->in = peer->out = (struct buffer){0};
    peer->touched = true; /* so that nothing puts it on the list again */
}

static void receive(struct peer *peer) {
    struct buffer *in = &peer->in;
    uint8_t *at = room(in, READ_ROOM);
    ssize_t got = recv(peer->fd, at, in->room - in->end, MSG_DONTWAIT);
    if (got <= 0) { gone(peer); return; }
    in->end += got;
    if (!peer->upgraded) upgrade(peer);
    if (peer->upgraded) in->start += cut(peer, in->bytes + in->start, in->end - in->start);
}

static void flush(void) {
    size_t kept = 0;
    full = 0;
    for (size_t index = 0; index < touched_count; index++) {
        struct peer *peer = touched[index];
        struct buffer *out = &peer->out;
        while (out->start < out->end) {
            ssize_t sent = send(peer->fd, out->bytes + out->start, out->end - out->start, MSG_NOSIGNAL | MSG_DONTWAIT);
            if (sent <= 0) break;
            out->start += sent;
        }
        if (out->end - out->start > HIGH_WATER / 2) full++;
        if (out->start < out->end) touched[kept++] = peer;
        else peer->touched = false;
    }
    touched_count = kept;
    if (full) return;
    while (paused_count) {
        struct peer *peer = paused[--paused_count];
        peer->paused = false;
        listen_to(peer, EPOLL_CTL_MOD, true);
    }
}

static void admit(int listener) {
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK), on = 1;
    if (fd < 0) return;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct peer *peer = calloc(1, sizeof *peer);
    if (!peer) { perror("relay"); exit(1); }
    peer->fd = fd;
    peer->next_id = 2;
    listen_to(peer, EPOLL_CTL_ADD, true);
}

int main(int argc, char **argv) {
    if (argc != 2) { fprintf(stderr, "usage: relay PORT\n"); return 2; }
    int listener = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&here, sizeof here) || listen(listener, 4096)) { perror("relay"); return 1; }
    poll_fd = epoll_create1(0);
    struct epoll_event events[EVENTS], door = {.events = EPOLLIN};
    epoll_ctl(poll_fd, EPOLL_CTL_ADD, listener, &door);
    for (;;) {
        /* A connection that takes no bytes has no event of its own: it is tried again every millisecond. */
        int count = epoll_wait(poll_fd, events, EVENTS, touched_count ? 1 : -1);
        for (int index = 0; index < count; index++) {
            struct peer *peer = events[index].data.ptr;
            if (!peer) admit(listener);
            else if (peer->fd >= 0) receive(peer);
        }
        flush();
    }
}
