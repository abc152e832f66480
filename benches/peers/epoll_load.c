/* A load generator as lean as one can be written: what `oneloop bench` is measured against.
 *
 *     cc -O2 -o epoll_load epoll_load.c
 *     ./epoll_load 127.0.0.1 7000 CONNECTIONS DEPTH SECONDS
 *
 * Closed loop, lines of 64 bytes, edge-triggered epoll, one read buffer. It counts newlines
 * and sends as many messages as came back. It checks nothing, times nothing and survives
 * nothing: that is what makes it the floor. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

enum { LINE = 64, BUFFER = 65536, MAX_DEPTH = 4096 };

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void die(const char *what) {
    perror(what);
    exit(1);
}

int main(int argc, char **argv) {
    if (argc != 6) {
        fprintf(stderr, "usage: %s ADDR PORT CONNECTIONS DEPTH SECONDS\n", argv[0]);
        return 2;
    }
    int connections = atoi(argv[3]), depth = atoi(argv[4]);
    double seconds = atof(argv[5]);
    if (connections < 1 || depth < 1 || depth > MAX_DEPTH) return 2;
    static char lines[MAX_DEPTH * LINE], buffer[BUFFER];
    memset(lines, 'x', sizeof lines);
    for (int i = 1; i <= MAX_DEPTH; i++) lines[i * LINE - 1] = '\n';

    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[2]))};
    if (inet_pton(AF_INET, argv[1], &addr.sin_addr) != 1) return 2;
    int poll = epoll_create1(0);
    int *fds = calloc(connections, sizeof *fds);
    for (int i = 0; i < connections; i++) {
        int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
        if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof addr)) die("connect");
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.fd = fd};
        if (epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event)) die("epoll_ctl");
        fds[i] = fd;
    }
    double began = now(), ends = began + seconds;
    for (int i = 0; i < connections; i++)
        if (send(fds[i], lines, (size_t)depth * LINE, MSG_NOSIGNAL) != (ssize_t)depth * LINE) die("send");

    uint64_t replies = 0;
    struct epoll_event events[1024];
    double time = began;
    while (time < ends) {
        int count = epoll_wait(poll, events, 1024, 100);
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            ssize_t got = recv(fd, buffer, BUFFER, 0);
            if (got <= 0) {
                if (got < 0 && errno == EAGAIN) continue;
                die("recv");
            }
            int came = 0;
            for (char *at = buffer, *end = buffer + got; (at = memchr(at, '\n', end - at)); at++) came++;
            replies += came;
            size_t bytes = (size_t)came * LINE;
            if (came && send(fd, lines, bytes, MSG_NOSIGNAL) != (ssize_t)bytes) die("send");
        }
        time = now();
    }
    printf("%.0f\n", replies / (time - began));
    return 0;
}
