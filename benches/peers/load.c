/* The one client of all servers in versus.py: as lean as it can be and still count.
 *
 *     cc -O3 -o load load.c
 *     ./load closed    port=7000 conns=50 depth=16 size=64 framing=lines seconds=1
 *     ./load rate      port=7000 conns=1000 rate=20000 beside=none|bulk|drip seconds=1
 *     ./load churn     port=7000 conns=50 seconds=1
 *     ./load broadcast port=7000 conns=10000 seconds=1
 *     ./load hold      port=7000        # reads how many connections to hold from stdin
 *     ./load stall     port=7000        # sends and never reads, until stdin ends
 *     ./load deaf      port=7000        # reads how many words to say to `conns` that never read
 *
 * All messages are the same and so are all replies. One message is sent at first to learn how
 * long a reply is; from then on bytes are counted and nothing is looked at, so that a server's
 * parser never waits for one here. At the end the replies still due have to arrive, and no
 * byte more. `pid=` reads that process' clock as the measurement begins and ends, `text=` is a
 * message as is, with \r and \n, `count=` ends after so many messages. Prints JSON. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { BUFFER = 65536, BULK_PIECE = 16384, DRIPPERS = 1000, STEPS = 32, BUCKETS = 40 * STEPS };
enum { BULK_LINE = 60000, GIVE_UP_S = 20 };

/* Messages that left at the same time, or are due at one. */
struct batch {
    uint64_t at;
    uint32_t count;
};

struct conn {
    int fd;
    uint32_t part;                       /* bytes of a reply that has not arrived whole */
    uint32_t first, batches;             /* of the ring */
    uint32_t watched;                    /* for space to send into */
    uint64_t due;                        /* messages without a reply */
    uint64_t owed;                       /* bytes of them that the kernel has not taken */
    struct batch *ring;
};

static int port, conns = 50, depth = 1, size = 64, pid, receive_buffer;
static double seconds = 1, warmup = 0.1, rate = 20000;
static uint64_t count_limit, histogram[BUCKETS];
static const char *framing = "lines", *text, *beside = "none";
static char *message, *many, buffer[BUFFER];
static size_t message_bytes, reply_bytes;
static int poll_fd;

static void fail(const char *what, ...) {
    va_list args;
    va_start(args, what);
    vfprintf(stderr, what, args);
    va_end(args);
    fprintf(stderr, errno ? ": %s\n" : "\n", strerror(errno));
    exit(1);
}

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static uint64_t cpu_of(int process) {
    clockid_t clock;
    struct timespec t = {0};
    if (process && !clock_getcpuclockid(process, &clock)) clock_gettime(clock, &t);
    return t.tv_sec * 1000000000ull + t.tv_nsec;
}

/* Log-linear: 32 steps to each doubling, 3 % wide. */
static void record(uint64_t ns, uint64_t times) {
    int shift = ns < 2 * STEPS ? 0 : 58 - __builtin_clzll(ns);
    size_t bucket = shift * STEPS + (ns >> shift);
    histogram[bucket < BUCKETS ? bucket : BUCKETS - 1] += times;
}

static double percentile_us(double wanted) {
    uint64_t all = 0, seen = 0;
    for (int i = 0; i < BUCKETS; i++) all += histogram[i];
    for (int i = 0; i < BUCKETS; i++) {
        seen += histogram[i];
        if (all && seen >= all * wanted) {
            int shift = i < 2 * STEPS ? 0 : i / STEPS - 1;
            return ((i - (uint64_t)shift * STEPS + 0.5) * (1ull << shift)) / 1000;
        }
    }
    return 0;
}

/* Blocking; a source address for each few hundred, as one has 28,000 ports. */
static int call(void) {
    static uint32_t callers;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
    if (fd < 0) fail("socket");
    struct sockaddr_in from = {.sin_family = AF_INET}, to = {.sin_family = AF_INET};
    from.sin_addr.s_addr = htonl(0x7f010001 + callers++ % 250);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    to.sin_port = htons(port);
    if (receive_buffer) setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&from, sizeof from)) fail("bind");
    if (connect(fd, (struct sockaddr *)&to, sizeof to)) fail("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

/* A reset at the end: no port waits for its time. */
static int call_and_watch(uint32_t index) {
    int fd = call();
    struct linger linger = {1, 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.u32 = index};
    if (epoll_ctl(poll_fd, EPOLL_CTL_ADD, fd, &event)) fail("epoll_ctl");
    return fd;
}

static void make_message(void) {
    if (text) {
        message = calloc(1, strlen(text) + 1);
        for (const char *c = text; *c; c++) {
            int escaped = *c == '\\' && (c[1] == 'r' || c[1] == 'n');
            message[message_bytes++] = !escaped ? *c : *++c == 'r' ? '\r' : '\n';
        }
        return;
    }
    message = malloc(size);
    message_bytes = size;
    memset(message, 'x', size);
    if (!strcmp(framing, "lines")) message[size - 1] = '\n';
    else if (!strcmp(framing, "u32be")) memcpy(message, &(uint32_t){htonl(size - 4)}, 4);
    else if (!strcmp(framing, "varint") && size <= 128) message[0] = size - 1;
    else fail("no such framing, or too large for it: %s", framing);
}

/* Sends one message and takes what comes until nothing has for 30 ms. */
static void learn_reply(void) {
    int fd = call();
    if (send(fd, message, message_bytes, MSG_NOSIGNAL) != (ssize_t)message_bytes) fail("send");
    for (struct pollfd one = {.fd = fd, .events = POLLIN}; poll(&one, 1, reply_bytes ? 30 : 1000 * GIVE_UP_S) > 0;) {
        ssize_t got = recv(fd, buffer, BUFFER, 0);
        if (got <= 0) fail("the server closed the first connection");
        reply_bytes += got;
    }
    close(fd);
    if (!reply_bytes) errno = 0, fail("no reply to the first message");
}

/* Sends what is owed, as far as the kernel takes it. The messages being all the same, what is
 * left of one is the end of any. */
static void send_owed(struct conn *conn, uint32_t index) {
    while (conn->owed) {
        size_t skip = (message_bytes - conn->owed % message_bytes) % message_bytes;
        ssize_t took = send(conn->fd, many + skip, conn->owed, MSG_NOSIGNAL);
        if (took < 0 && errno != EAGAIN) fail("send");
        if (took < 0) {
            if (conn->watched) return;
            struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.u32 = index};
            if (epoll_ctl(poll_fd, EPOLL_CTL_MOD, conn->fd, &event)) fail("epoll_ctl");
            conn->watched = 1;
            return;
        }
        conn->owed -= took;
    }
}

static void send_messages(struct conn *conn, uint32_t index, uint32_t how_many, uint64_t at) {
    conn->ring[(conn->first + conn->batches++) % depth] = (struct batch){at, how_many};
    conn->due += how_many;
    conn->owed += how_many * message_bytes;
    send_owed(conn, index);
}

/* Takes the replies that are there; says how many messages that were. */
static uint32_t take_replies(struct conn *conn, int recording) {
    uint32_t all = 0;
    for (;;) {
        ssize_t got = recv(conn->fd, buffer, BUFFER, 0);
        if (got == 0) errno = 0, fail("the server closed a connection");
        if (got < 0 && errno != EAGAIN) fail("recv");
        if (got < 0) return all;
        size_t bytes = conn->part + got;
        uint32_t replies = bytes / reply_bytes;
        conn->part = bytes % reply_bytes;
        if (replies > conn->due) errno = 0, fail("more replies than messages");
        conn->due -= replies;
        all += replies;
        uint64_t at = replies ? now() : 0;
        while (replies) {
            struct batch *batch = &conn->ring[conn->first];
            uint32_t done = replies < batch->count ? replies : batch->count;
            if (recording) record(at - batch->at, done);
            replies -= done;
            batch->count -= done;
            if (!batch->count) conn->first = (conn->first + 1) % depth, conn->batches--;
        }
        if (got < BUFFER) return all;
    }
}

struct span {
    uint64_t wall, server, own, messages;
};

static struct span span_now(uint64_t messages) {
    return (struct span){now(), cpu_of(pid), cpu_of(getpid()), messages};
}

static void print(struct span began, struct span ended, uint64_t all) {
    uint64_t wall = ended.wall - began.wall, messages = ended.messages - began.messages;
    if (!messages) errno = 0, fail("no message was answered in the time measured");
    printf("{\"all\": %llu, \"messages\": %llu, \"seconds\": %.6f, \"per_s\": %.1f, \"cpu_ns\": %.2f, \"busy\": %.4f, "
           "\"load_busy\": %.4f, \"reply_bytes\": %zu, \"p50_us\": %.2f, \"p99_us\": %.2f, \"p999_us\": %.2f}\n",
           (unsigned long long)all, (unsigned long long)messages, wall / 1e9, messages * 1e9 / wall,
           (ended.server - began.server) / (double)messages, (ended.server - began.server) / (double)wall,
           (ended.own - began.own) / (double)wall, reply_bytes,
           percentile_us(0.5), percentile_us(0.99), percentile_us(0.999));
    fflush(stdout);
}

/* More callers than the server's backlog holds would wait for seconds: from time to time, one
 * waits for a reply, and all before it have been accepted. */
static void wait_until_accepted(int fd) {
    if (!reply_bytes) {
        usleep(20000);
        return;
    }
    if (send(fd, message, message_bytes, MSG_NOSIGNAL) != (ssize_t)message_bytes) fail("send");
    for (size_t got = 0; got < reply_bytes;) {
        struct pollfd one = {.fd = fd, .events = POLLIN};
        if (poll(&one, 1, 1000 * GIVE_UP_S) <= 0) fail("no reply while connecting");
        ssize_t came = recv(fd, buffer, BUFFER, 0);
        if (came <= 0) fail("no reply while connecting");
        got += came;
    }
}

static struct conn *open_all(int how_many) {
    struct conn *all = calloc(how_many, sizeof *all);
    for (int i = 0; i < how_many; i++) {
        all[i].fd = call_and_watch(i);
        all[i].ring = calloc(depth, sizeof(struct batch));
        if (i % 512 == 511) wait_until_accepted(all[i].fd);
    }
    return all;
}

static void closed(void) {
    struct conn *all = open_all(conns);
    struct epoll_event events[1024];
    struct span began = {0}, ended = {0};
    uint64_t messages = 0, start = now(), time = start, sending = 1, due = (uint64_t)conns * depth;
    for (int i = 0; i < conns; i++) send_messages(&all[i], i, depth, now());
    uint64_t first = now() + warmup * 1e9, last = 0;
    while (sending || due) {
        int count = epoll_wait(poll_fd, events, 1024, 1000 * GIVE_UP_S);
        if (!count) errno = 0, fail("%llu replies are missing", (unsigned long long)due);
        for (int i = 0; i < count; i++) {
            uint32_t index = events[i].data.u32;
            struct conn *conn = &all[index];
            uint32_t replies = take_replies(conn, began.wall && sending);
            if (conn->owed) send_owed(conn, index);
            messages += replies;
            due -= replies;
            if (replies && sending) send_messages(conn, index, replies, now()), due += replies;
        }
        time = now();
        if (!began.wall && (time >= first || count_limit)) {
            began = span_now(messages);
            last = began.wall + seconds * 1e9;
        }
        if (sending && (count_limit ? messages >= count_limit : time >= last && began.wall))
            ended = span_now(messages), sending = 0;
    }
    for (int i = 0; i < conns; i++)
        if (all[i].part) errno = 0, fail("a reply is not whole");
    print(began, ended, messages);
}

/* Open loop: message n is due at n/rate on connection n % conns, and its latency counts from
 * then. It does not sleep, so that it is not late itself. */
static void at_rate(void) {
    depth = 1024;
    struct conn *all = open_all(conns);
    int bulk = strcmp(beside, "bulk") ? -1 : call_and_watch(UINT32_MAX), drippers[DRIPPERS], drips = !strcmp(beside, "drip");
    if (drips) for (int i = 0; i < DRIPPERS; i++) drippers[i] = call_and_watch(UINT32_MAX);
    static char flood[BULK_LINE * 4];
    memset(flood, 'y', sizeof flood);
    for (int i = 1; i <= 4; i++) flood[i * BULK_LINE - 1] = '\n';
    size_t flood_at = 0;
    uint64_t start = now(), measured = start + warmup * 1e9, end = UINT64_MAX;
    uint64_t sent = 0, messages = 0, due = 0, drip = 0, flooded = 0;
    struct epoll_event events[256];
    struct span began = {0}, ended = {0};
    for (uint64_t time = start; !ended.wall || due; time = now()) {
        if (ended.wall && time > end + GIVE_UP_S * 1000000000ull) errno = 0, fail("%llu replies are missing", (unsigned long long)due);
        if (!began.wall && time >= measured) {
            began = span_now(messages);
            end = began.wall + seconds * 1e9;
        }
        if (began.wall && !ended.wall && time >= end) ended = span_now(messages);
        for (int burst = 0; burst < 32 && time < end; burst++, sent++) {
            uint64_t at = start + sent * 1e9 / rate;
            if (at > time) break;
            struct conn *conn = &all[sent % conns];
            if (conn->due == (uint64_t)depth) errno = 0, fail("a server that stalls for %d messages", depth);
            send_messages(conn, sent % conns, 1, at);
            due++;
        }
        if (drips && time < end && start + drip * 1e9 / DRIPPERS <= time)
            send(drippers[drip++ % DRIPPERS], "y", 1, MSG_NOSIGNAL);
        if (bulk >= 0 && time < end) {
            ssize_t took = send(bulk, flood + flood_at, BULK_PIECE, MSG_NOSIGNAL);
            if (took > 0) flood_at = (flood_at + took) % BULK_LINE, flooded += took;
            if (recv(bulk, buffer, BULK_PIECE, 0) == 0) errno = 0, fail("the server closed the bulk sender");
        }
        int count = epoll_wait(poll_fd, events, 256, 0);
        for (int i = 0; i < count; i++) {
            if (events[i].data.u32 == UINT32_MAX) continue;
            uint32_t replies = take_replies(&all[events[i].data.u32], began.wall && !ended.wall);
            messages += replies;
            due -= replies;
        }
    }
    fprintf(stderr, "%.0f MB/s beside\n", flooded / (seconds + warmup) / 1e6);
    print(began, ended, messages);
}

/* Connect, one message, its reply, close; `conns` of them at a time, one after the other. */
static void churn(void) {
    int *fds = calloc(conns, sizeof *fds);
    uint64_t *born = calloc(conns, sizeof *born), messages = 0, last = 0;
    struct span began = {0}, ended = {0};
    for (int i = 0; i < conns; i++) fds[i] = -1;
    uint64_t first = now() + warmup * 1e9;
    for (int i = 0; !ended.wall; i = (i + 1) % conns) {
        if (fds[i] >= 0) {
            for (size_t got = 0; got < reply_bytes;) {
                ssize_t came = recv(fds[i], buffer, BUFFER, 0);
                if (came <= 0) fail("no reply on a new connection");
                got += came;
            }
            if (began.wall) record(now() - born[i], 1);
            close(fds[i]);
            messages++;
        }
        uint64_t time = born[i] = now();
        if (!began.wall && (time >= first || count_limit)) {
            began = span_now(messages);
            last = began.wall + seconds * 1e9;
        }
        if (began.wall && (count_limit ? messages >= count_limit : time >= last)) ended = span_now(messages);
        fds[i] = call();
        if (send(fds[i], message, message_bytes, MSG_NOSIGNAL) != (ssize_t)message_bytes) fail("send");
    }
    print(began, ended, messages);
}

/* One speaks, `conns` others hear it; the next word when all have heard this one. */
static void broadcast(void) {
    struct conn *all = open_all(conns + 1);
    reply_bytes = message_bytes;
    struct epoll_event events[1024];
    struct span began = {0}, ended = {0};
    uint64_t bytes = 0, said = 0, first = 0, last = 0, at = 0, deliveries = 0;
    /* All have to be accepted before the first word. */
    usleep(200000 + 20 * conns);
    for (;;) {
        uint64_t time = now();
        deliveries = said * conns;
        if (!first) first = time + warmup * 1e9;
        if (!began.wall && said && (time >= first || count_limit)) {
            began = span_now(deliveries);
            last = began.wall + seconds * 1e9;
        }
        if (began.wall && (count_limit ? deliveries >= count_limit : time >= last)) {
            ended = span_now(deliveries);
            break;
        }
        at = now();
        if (send(all[conns].fd, message, message_bytes, MSG_NOSIGNAL) != (ssize_t)message_bytes) fail("send");
        for (bytes = 0; bytes < conns * message_bytes;) {
            int count = epoll_wait(poll_fd, events, 1024, 1000 * GIVE_UP_S);
            if (!count) errno = 0, fail("%llu of %zu bytes heard", (unsigned long long)bytes, conns * message_bytes);
            for (int i = 0; i < count; i++) {
                ssize_t got = recv(all[events[i].data.u32].fd, buffer, BUFFER, 0);
                if (got == 0) errno = 0, fail("the server closed a connection");
                if (got > 0) bytes += got;
                if (got > 0 && began.wall) record(now() - at, 1);
            }
        }
        if (bytes > conns * message_bytes) errno = 0, fail("more was heard than said");
        said++;
    }
    print(began, ended, deliveries);
}

static void hold(void) {
    int held = 0, wanted;
    while (scanf("%d", &wanted) == 1) {
        for (; held < wanted; held++) {
            int fd = call();
            struct linger linger = {1, 0};
            setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
            if (send(fd, message, message_bytes, MSG_NOSIGNAL) < 0) fail("send");
            for (size_t got = 0; got < reply_bytes;) {
                ssize_t came = recv(fd, buffer, BUFFER, 0);
                if (came <= 0) fail("no reply on connection %d", held);
                got += came;
            }
        }
        printf("%d\n", held);
        fflush(stdout);
    }
}

/* Says how much it got rid of when nothing was taken for half a second. */
static void stall(void) {
    int fd = call(), wanted;
    uint64_t sent = 0;
    many = malloc(BUFFER);
    for (size_t i = 0; i < BUFFER; i++) many[i] = i % 1024 == 1023 ? '\n' : 'x';
    fcntl(fd, F_SETFL, O_NONBLOCK);
    for (struct pollfd one = {.fd = fd, .events = POLLOUT}; poll(&one, 1, 500) > 0;) {
        ssize_t took = send(fd, many + sent % 1024, BUFFER - sent % 1024, MSG_NOSIGNAL);
        if (took < 0 && errno != EAGAIN) fail("send");
        if (took > 0) sent += took;
    }
    printf("%llu\n", (unsigned long long)sent);
    fflush(stdout);
    while (scanf("%d", &wanted) == 1) {}
}

static void deaf(void) {
    int speaker = call(), said = 0, wanted;
    /* As little as there is: what the kernel does not take is what is looked for. */
    receive_buffer = 1;
    open_all(conns);
    usleep(200000 + 20 * conns);
    do {
        printf("%d\n", said);
        fflush(stdout);
        if (scanf("%d", &wanted) != 1) return;
        for (; said < wanted; said++)
            if (send(speaker, message, message_bytes, MSG_NOSIGNAL) != (ssize_t)message_bytes) fail("send");
    } while (1);
}

int main(int argc, char **argv) {
    const char *mode = argc > 1 ? argv[1] : "";
    for (int i = 2; i < argc; i++) {
        char *value = strchr(argv[i], '=');
        if (!value) fail("not a setting: %s", argv[i]);
        *value++ = 0;
        const char *name = argv[i];
        if (!strcmp(name, "port")) port = atoi(value);
        else if (!strcmp(name, "conns")) conns = atoi(value);
        else if (!strcmp(name, "depth")) depth = atoi(value);
        else if (!strcmp(name, "size")) size = atoi(value);
        else if (!strcmp(name, "pid")) pid = atoi(value);
        else if (!strcmp(name, "seconds")) seconds = atof(value);
        else if (!strcmp(name, "warmup")) warmup = atof(value);
        else if (!strcmp(name, "rate")) rate = atof(value);
        else if (!strcmp(name, "count")) count_limit = atoll(value);
        else if (!strcmp(name, "framing")) framing = value;
        else if (!strcmp(name, "beside")) beside = value;
        else if (!strcmp(name, "text")) text = value;
        else errno = 0, fail("no such setting: %s", name);
    }
    if (!port || conns < 1 || depth < 1 || size < 5) errno = 0, fail("no port, or a number too small");
    signal(SIGPIPE, SIG_IGN);
    struct rlimit descriptors;
    getrlimit(RLIMIT_NOFILE, &descriptors);
    descriptors.rlim_cur = descriptors.rlim_max;
    setrlimit(RLIMIT_NOFILE, &descriptors);
    poll_fd = epoll_create1(EPOLL_CLOEXEC);
    make_message();
    if (strcmp(mode, "broadcast") && strcmp(mode, "stall") && strcmp(mode, "deaf")) learn_reply();
    many = malloc(message_bytes * depth);
    for (int i = 0; i < depth; i++) memcpy(many + i * message_bytes, message, message_bytes);
    if (!strcmp(mode, "closed")) closed();
    else if (!strcmp(mode, "rate")) at_rate();
    else if (!strcmp(mode, "churn")) churn();
    else if (!strcmp(mode, "broadcast")) broadcast();
    else if (!strcmp(mode, "hold")) hold();
    else if (!strcmp(mode, "stall")) stall();
    else if (!strcmp(mode, "deaf")) deaf();
    else errno = 0, fail("closed, rate, churn, broadcast, hold, stall or deaf");
    return 0;
}
