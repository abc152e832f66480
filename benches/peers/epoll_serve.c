/* The floor: an echo server as lean as one can be written by hand.
 *
 *     cc -O3 -o epoll_serve epoll_serve.c
 *     ./epoll_serve PORT lines|u32be|whole|broadcast [SEND_BUFFER]
 *
 * Edge-triggered epoll, one read buffer for all, a read that fills it not ends the reading,
 * one send for all the replies to a read. `lines` drops a CR before the LF, as oneloop does,
 * `u32be` is a length in four bytes, `whole` echoes what it read, `broadcast` sends each line
 * to all others. A message that has arrived in part is kept in a buffer of its own until it
 * is whole; what the kernel does not take is kept until it does, and nothing is read so long.
 * There is no log, no clock, no limit but the size of a message, and one table of descriptors:
 * everything oneloop costs above this is its own. With SEND_BUFFER the kernel keeps as little
 * output of one peer as it does for oneloop, in bytes. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { MAX_MESSAGE = 65536, READ = 65536, SPACE = MAX_MESSAGE + READ + 8, DESCRIPTORS = 20000 };

/* A buffer that is lent to a connection, or waits in the list of those that are not. */
struct buffer {
    struct buffer *next;
    char bytes[SPACE];
};

struct conn {
    struct buffer *in, *out;
    uint32_t in_bytes, out_from, out_to;
    char open, finishing, wants_out;
};

typedef size_t parse_fn(const char *bytes, size_t count, size_t looked_at);

static struct conn conns[DESCRIPTORS];
static struct buffer *spare;
static char shared[SPACE], out[SPACE];
static size_t out_bytes;
static int poll_fd, highest;

static void die(const char *what) {
    perror(what);
    exit(1);
}

static struct buffer *lend(void) {
    struct buffer *one = spare;
    if (one) spare = one->next;
    else if (!(one = malloc(sizeof *one))) die("malloc");
    return one;
}

static void give_back(struct buffer **one) {
    if (*one) (*one)->next = spare, spare = *one;
    *one = NULL;
}

static void hang_up(int fd) {
    give_back(&conns[fd].in);
    give_back(&conns[fd].out);
    memset(&conns[fd], 0, sizeof conns[fd]);
    close(fd);
}

/* Each parser copies the replies of whole messages to `out` and says how many bytes those
 * were, or SIZE_MAX if a message is too long. */
static size_t lines(const char *bytes, size_t count, size_t looked_at) {
    const char *from = bytes, *look = bytes + looked_at, *end = bytes + count, *lf;
    while ((lf = memchr(look, '\n', end - look))) {
        size_t size = lf - from;
        if (size && from[size - 1] == '\r') size--;
        if (size > MAX_MESSAGE) return SIZE_MAX;
        memcpy(out + out_bytes, from, size);
        out[out_bytes + size] = '\n';
        out_bytes += size + 1;
        from = look = lf + 1;
    }
    return end - from > MAX_MESSAGE ? SIZE_MAX : (size_t)(from - bytes);
}

static size_t u32be(const char *bytes, size_t count, size_t looked_at) {
    size_t from = 0;
    (void)looked_at;
    while (count - from >= 4) {
        uint32_t size;
        memcpy(&size, bytes + from, 4);
        size = ntohl(size);
        if (size > MAX_MESSAGE) return SIZE_MAX;
        if (count - from - 4 < size) break;
        memcpy(out + out_bytes, bytes + from, 4 + size);
        out_bytes += 4 + size;
        from += 4 + size;
    }
    return from;
}

static size_t whole(const char *bytes, size_t count, size_t looked_at) {
    (void)looked_at;
    memcpy(out, bytes, count);
    out_bytes = count;
    return count;
}

static int speaker;

static size_t broadcast(const char *bytes, size_t count, size_t looked_at) {
    const char *from = bytes, *look = bytes + looked_at, *end = bytes + count, *lf;
    for (; (lf = memchr(look, '\n', end - look)); from = look = lf + 1)
        for (int fd = 0; fd <= highest; fd++)
            if (conns[fd].open && fd != speaker) send(fd, from, lf + 1 - from, MSG_NOSIGNAL);
    return from - bytes;
}

/* False if the connection is gone. */
static int send_replies(int fd, struct conn *conn) {
    if (!out_bytes) return 1;
    ssize_t sent = send(fd, out, out_bytes, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN) return hang_up(fd), 0;
    if (sent < 0) sent = 0;
    if ((size_t)sent < out_bytes) {
        conn->out = lend();
        conn->out_from = 0, conn->out_to = out_bytes - sent;
        memcpy(conn->out->bytes, out + sent, conn->out_to);
        if (!conn->wants_out) {
            struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.fd = fd};
            epoll_ctl(poll_fd, EPOLL_CTL_MOD, fd, &event);
            conn->wants_out = 1;
        }
    }
    out_bytes = 0;
    return 1;
}

static void serve(int fd, uint32_t events, parse_fn *parse) {
    struct conn *conn = &conns[fd];
    /* A FIN behind the data makes no event of its own: then only the end of the stream ends
     * the reading. */
    if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) conn->finishing = 1;
    if (conn->out) {
        ssize_t sent = send(fd, conn->out->bytes + conn->out_from, conn->out_to - conn->out_from, MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN) return hang_up(fd);
        if (sent > 0) conn->out_from += sent;
        if (conn->out_from < conn->out_to) return;
        give_back(&conn->out);
    }
    for (;;) {
        char *bytes = conn->in ? conn->in->bytes : shared;
        ssize_t got = recv(fd, bytes + conn->in_bytes, READ, 0);
        if (got == 0 || (got < 0 && errno != EAGAIN)) return hang_up(fd);
        if (got < 0) return;
        size_t count = conn->in_bytes + got;
        speaker = fd;
        size_t used = parse(bytes, count, conn->in_bytes);
        if (used == SIZE_MAX) return hang_up(fd);
        size_t left = count - used;
        if (left && !conn->in) {
            conn->in = lend();
            memcpy(conn->in->bytes, bytes + used, left);
        } else if (left && used) {
            memmove(bytes, bytes + used, left);
        } else if (!left) {
            give_back(&conn->in);
        }
        conn->in_bytes = left;
        if (!send_replies(fd, conn) || conn->out) return;
        if (got < READ && !conn->finishing) return;
    }
}

static void welcome(int listener) {
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) return;
        if (fd >= DESCRIPTORS) {
            close(fd);
            continue;
        }
        struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.fd = fd};
        if (epoll_ctl(poll_fd, EPOLL_CTL_ADD, fd, &event)) die("epoll_ctl");
        conns[fd].open = 1;
        if (fd > highest) highest = fd;
    }
}

int main(int argc, char **argv) {
    parse_fn *parse = argc < 3 || argc > 4 ? NULL
        : !strcmp(argv[2], "lines") ? lines
        : !strcmp(argv[2], "u32be") ? u32be
        : !strcmp(argv[2], "whole") ? whole
        : !strcmp(argv[2], "broadcast") ? broadcast : NULL;
    if (!parse) {
        fprintf(stderr, "usage: %s PORT lines|u32be|whole|broadcast [SEND_BUFFER]\n", argv[0]);
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1])),
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    /* Those that are accepted inherit it. */
    setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (argc == 4) {
        int size = atoi(argv[3]);
        setsockopt(listener, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    }
    if (bind(listener, (struct sockaddr *)&addr, sizeof addr)) die("bind");
    if (listen(listener, 4096)) die("listen");
    poll_fd = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.fd = listener}, events[1024];
    epoll_ctl(poll_fd, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int count = epoll_wait(poll_fd, events, 1024, -1);
        for (int i = 0; i < count; i++) {
            if (events[i].data.fd == listener) welcome(listener);
            else if (conns[events[i].data.fd].open) serve(events[i].data.fd, events[i].events, parse);
        }
    }
}
