"""F01 to F14: accepting, and descriptors."""

import os
import resource
import select
import signal
import socket
import subprocess
import time

from harness import (Skipped, answered, case, check, close_all, inject, pause, read_exactly, rst,
                     strace, talk, until)


def limit(server, kind, value):
    resource.prlimit(server.pid, kind, (value, value))


def hellos(clients):
    for client in clients:
        client.sendall(b"hello\n")


def served(clients, patience=20):
    """Each has its hello back."""
    for client in answered(clients, len(clients), patience):
        check(read_exactly(client, 6) == b"hello\n", "another reply")


def full(t):
    """A server whose limit fell to 64 descriptors, 30 clients that it holds, and 200 more."""
    server = t.serve()
    held = server.crowd(30)
    hellos(held)
    served(held)
    limit(server, resource.RLIMIT_NOFILE, 64)
    queued = server.crowd(200)
    hellos(queued)
    server.hear("cannot accept")
    return server, held, queued


def accept_calls(server, seconds):
    """How often it tries, as strace counts; None without strace."""
    try:
        words = strace("-e", "trace=accept4")
    except Skipped:
        return None
    # Attached to it, so not with -D.
    words = [word for word in words if word not in ("-D", "-o", "/dev/null")]
    tracer = subprocess.Popen(words + ["-p", str(server.pid)], stderr=subprocess.PIPE)
    pause(seconds)
    tracer.send_signal(signal.SIGINT)
    seen = tracer.communicate()[1]
    return None if b"attach" in seen and b"not permitted" in seen else seen.count(b"accept4(")


@case("F01", "no descriptors left")
def f01(t):
    server, held, queued = full(t)
    cpu, begun = server.cpu(), time.monotonic()
    for _ in range(20):
        hellos(held)
        for client in held:
            check(read_exactly(client, 6) == b"hello\n", "the held are not served")
    calls = accept_calls(server, 1.0)
    check(calls is None or calls < 100, "%s accept calls in a second", calls)
    share = (server.cpu() - cpu) / (time.monotonic() - begun)
    check(share < 0.5, "it spins: %.0f %% of a processor", share * 100)
    close_all(held + queued)
    return "%s accept calls/s while full" % calls


@case("F02", "descriptors that come free without a new caller")
def f02(t):
    server, held, queued = full(t)
    lucky = answered(queued, 1)
    before = len(lucky)
    close_all(held[:20])
    begun = time.monotonic()
    rest = [client for client in queued if client not in lucky]
    answered(rest, 15, patience=1.0)
    took = time.monotonic() - begun
    close_all(held + queued)
    return "15 more of the queued %.2f s after 20 left (%d before)" % (took, before)


def injected_accepts(t, errors, times=range(1, 11)):
    for error in errors:
        for n in times:
            # The first one is the control client's.
            server = t.serve(before=inject("accept4:error=%s:when=%d" % (error, n)))
            for k in range(n + 1):
                check(server.ask(b"hello\n") == b"hello\n", "%s at accept %d: client %d", error,
                      n, k)
            t.judge_now(server)


@case("F03", "ECONNABORTED, EPROTO, ENETDOWN of the Nth accept")
def f03(t):
    injected_accepts(t, ("ECONNABORTED", "EPROTO", "ENETDOWN"), (1, 2, 3, 10))
    return "12 runs"


@case("F04", "ENFILE, ENOBUFS, ENOMEM, EPERM of accept")
def f04(t):
    injected_accepts(t, ("ENOBUFS", "ENOMEM", "EPERM"), (1, 2, 3))
    # Who waits first is hung up on, and told so by that. (The control client takes two calls:
    # behind it there is nobody.)
    server = t.serve(before=inject("accept4:error=ENFILE:when=3"))
    clients = server.crowd(3)
    hellos(clients)
    got = []
    for client in clients:
        try:
            got.append(client.recv(6))
        except ConnectionError:
            got.append(b"")
    check(sorted(got) == [b"", b"hello\n", b"hello\n"], "ENFILE: %r", got)
    close_all(clients)
    t.judge_now(server)
    return "10 runs"


@case("F05", "EINTR of every second call, of every third wait")
def f05(t):
    # strace fails a wait without waiting, and behind one that failed the loop only looks:
    # were each second one failed, it could never sleep.
    calls = ("accept4:error=EINTR:when=1+2", "recvfrom:error=EINTR:when=1+2",
             # Not the one by which a signal reaches the loop, which cannot be interrupted.
             "sendto:error=EINTR:when=1..100+2", "epoll_wait:error=EINTR:when=1+3")
    server = t.serve(before=inject(*calls))
    for n in range(50):
        text = b"".join(b"%d %d\n" % (n, k) for k in range(100))
        check(server.ask(text) == text, "client %d did not get its lines", n)
    return "50 clients, 5,000 messages"


@case("F06", "a reset before the accept, 10,000 times")
def f06(t):
    server = t.serve()
    for _ in range(10000):
        rst(server.connect())
    until("all accepted", lambda: server.fds() <= server.base["fds"] + 1)
    t.closes(server, peer_reset=10000)
    lines = len(server.lines)
    return "%d lines of log" % lines


@case("F07", "5,000 callers at once")
def f07(t):
    server = t.serve()
    clients, begun = [], time.monotonic()
    for _ in range(5000):
        client = socket.socket()
        client.setblocking(False)
        client.connect_ex((server.host, server.port))
        clients.append(client)
    called = time.monotonic() - begun
    poll, by_fd = select.poll(), {client.fileno(): client for client in clients}
    for fd in by_fd:
        poll.register(fd, select.POLLOUT)
    while by_fd:
        ready = poll.poll(20000)
        check(ready, "%d were never taken", len(by_fd))
        for fd, _ in ready:
            poll.unregister(fd)
            by_fd.pop(fd).sendall(b"hello\n")
    served(clients)
    took = time.monotonic() - begun
    close_all(clients)
    t.closes(server, peer_eof=5000)
    return "called in %.2f s, all answered in %.2f s" % (called, took)


def never_more(server, most):
    now = server.fds() - server.base["fds"]
    check(now <= most, "%d connections, allowed are %d", now, most)


@case("F08", "the limit of connections, and half of them leave")
def f08(t):
    server = t.serve("--max-connections", "100")
    clients = server.crowd(300)
    hellos(clients)
    first = answered(clients, 99)
    pause(0.2)
    never_more(server, 100)
    waiting = [client for client in clients if client not in first]
    check(not select.select(waiting, [], [], 0)[0], "more than the limit were served")
    close_all(first[:50])
    second = answered(waiting, 50, patience=1.0)
    never_more(server, 100)
    check(len(second) == 50, "%d of those who waited were taken for 50", len(second))
    close_all(clients)

    told = t.serve("--max-connections", "100", "--when-full", "refuse")
    clients = told.crowd(300)
    hellos(clients)
    got = [client.recv(100) for client in answered(clients, 300)]
    busy = [text for text in got if text.startswith(b"busy: all 100 ")]
    check((got.count(b"hello\n"), len(busy)) == (99, 201), "%d served, %d told",
          got.count(b"hello\n"), len(busy))
    close_all(clients)
    t.closes(told, max_connections=201, peer_eof=99)
    return "99 and the control served, 201 waited, or were told"


@case("F09", "one address opens 5,000, and another one")
def f09(t):
    if "--max-per-ip" not in t.help():
        raise Skipped("serve has no --max-per-ip here")
    server = t.serve("--max-per-ip", "100")
    crowd = server.crowd(5000, source=("127.0.0.2", 0))
    with server.connect(source=("127.0.0.3", 0)) as other:
        check(talk(other, b"hello\n") == b"hello\n", "the other is not served")
    close_all(crowd)


@case("F10", "a connection that cannot be watched")
def f10(t):
    runs = 0
    for error in ("ENOSPC", "ENOMEM"):
        # The first ones are the loop's own: a waker, signals, the listener; then the control's.
        for n in range(5, 9):
            server = t.serve(before=inject("epoll_ctl:error=%s:when=%d" % (error, n)))
            got = []
            for _ in range(6):
                try:
                    got.append(server.ask(b"hello\n"))
                except ConnectionError:
                    got.append(b"")
            check(got.count(b"") == 1 and got.count(b"hello\n") == 5, "%s at %d: %s", error, n, got)
            t.closes(server, register_failed=1, peer_eof=5)
            t.judge_now(server)
            runs += 1
    return "%d runs" % runs


def as_nobody():
    if os.geteuid() == 0:
        os.setgroups([])
        os.setuid(65534)


def refused_to_start(t, *flags, prepare=None):
    done = subprocess.run([t.binary, "serve", *flags], stdin=subprocess.DEVNULL, timeout=20,
                          stderr=subprocess.PIPE, preexec_fn=prepare)
    last = done.stderr.decode().strip().split("\n")[-1]
    check(last.startswith("error: "), "no error said: %r", last)
    return done.returncode, last


@case("F11", "an address in use, a privileged port, an address of nobody")
def f11(t):
    server = t.serve()
    code, text = refused_to_start(t, "-l", "127.0.0.1:%d" % server.port)
    check(code == 1 and "in use" in text, "%d %s", code, text)
    code, text = refused_to_start(t, "-l", "203.0.113.1:7000")
    check(code == 1 and "no such address" in text, "%d %s", code, text)
    if not may_bind_as_nobody(t):
        return "privileged port not tried: ports below 1024 are free here, or the program is " \
               "where nobody else may read it"
    code, text = refused_to_start(t, "-l", "127.0.0.1:1", prepare=as_nobody)
    check(code == 1 and "privilege" in text, "%d %s", code, text)
    return "each exit 1 and why"


def may_bind_as_nobody(t):
    with open("/proc/sys/net/ipv4/ip_unprivileged_port_start") as file:
        free = int(file.read()) <= 1
    try:
        tried = subprocess.run([t.binary, "--version"], preexec_fn=as_nobody,
                               stdout=subprocess.DEVNULL)
    except OSError:
        return False
    return not free and tried.returncode == 0


@case("F12", "600 callers while the loop stands still")
def f12(t):
    server = t.serve()
    server.tell(signal.SIGSTOP)
    begun = time.monotonic()
    clients = server.crowd(600, timeout=5)
    connected = time.monotonic() - begun
    hellos(clients)
    pause(max(0, 0.3 - connected))
    server.tell(signal.SIGCONT)
    t.stands_still[server] = (time.monotonic() - begun) * 1000
    begun = time.monotonic()
    served(clients)
    took = time.monotonic() - begun
    close_all(clients)
    t.closes(server, peer_eof=600)
    return "connected in %.2f s, answered %.2f s after" % (connected, took)


def nofile(soft, hard):
    return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@case("F13", "a low limit of descriptors at the start")
def f13(t):
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    server = t.serve("--max-connections", "10000", prepare=nofile(256, hard))
    clients = server.crowd(500)
    hellos(clients)
    served(clients)
    close_all(clients)
    t.closes(server, peer_eof=500)
    code, text = refused_to_start(t, "--max-connections", "10000", prepare=nofile(256, 256))
    check(code == 2 and "10000" in text and "256" in text, "%d %s", code, text)
    return "raised to the hard limit; or exit 2 and both numbers"


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


def closed_standard():
    for fd in (0, 1, 2):
        os.close(fd)


def target_of(server, fd):
    try:
        return os.readlink("/proc/%d/fd/%d" % (server.pid, fd))
    except OSError:
        return "closed"


@case("F14", "no stdin, stdout and stderr, and descriptors of others")
def f14(t):
    junk = [os.open("/dev/null", os.O_RDONLY) for _ in range(20)]
    server = t.serve("--verbose", control=None, listen="127.0.0.1:%d" % free_port(),
                     stderr=subprocess.DEVNULL, prepare=closed_standard, pass_fds=junk)
    until("it listens", lambda: can_connect(server))
    server.settled()
    t.watch(server)
    text = b"hello\n" * 1000
    check(server.ask(text) == text, "a client got something else")
    for fd in (0, 1, 2):
        check("socket" not in target_of(server, fd), "%d is a socket", fd)
    kept = [fd for fd in junk if target_of(server, fd) == "/dev/null"]
    check(len(kept) == len(junk), "descriptors of others were closed")
    for fd in junk:
        os.close(fd)


def can_connect(server):
    try:
        server.connect().close()
        return True
    except ConnectionError:
        return False
