"""F76 to F91: the process, its host, its log, and everything at once."""

import collections
import fcntl
import os
import random
import resource
import signal
import socket
import threading
import time

from harness import (Failed, Skipped, answered, case, check, close_all, ends, fill, inject,
                     not_applicable, pause, read_all, read_exactly, rst, talk, u32be, until)


def limit(server, kind, value):
    resource.prlimit(server.pid, kind, (value, value))


@case("F76", "SIGTERM inside a message, inside a reply, with 5,000 idle")
def f76(t):
    server = t.serve()
    idle = server.crowd(5000)
    begun, unread = server.connect(), server.connect(rcvbuf=4096)
    begun.sendall(b"hel")
    took = fill(unread, (b"x" * 1023 + b"\n") * 4000)
    with server.connect() as last:
        talk(last, b"hello\n")
    asked, told = t.asked(server)
    server.tell(signal.SIGTERM)
    start = time.monotonic()
    for client in answered(idle, 5000):
        check(ends(client), "an idle one was told something")
    fin = time.monotonic() - start
    check(fin < 1, "the idle had their FIN after %.2f s", fin)
    begun.sendall(b"lo\n")
    check(read_all(begun) == b"hello\n", "the message that was begun is not answered")
    got = len(read_all(unread))
    check(got > 60000, "%d bytes of the replies", got)
    close_all(idle + [begun, unread])
    check(server.process.wait(15) == 0, "exit code")
    totals = server.totals()
    check(totals["accepted"] == 5004 and totals["open"] == 0, "%s", totals)
    check(totals["in"] == totals["out"], "%s", totals)
    check(got % 1024 == 0 and totals["out"] == got // 1024 + 3 + asked["asked"],
          "%d bytes of %s", got, totals)
    t.over(server)
    return "idle: FIN within %.2f s; %d of %d KiB were read as messages, each answered; %s" % (
        fin, got >> 10, took >> 10, told)


@case("F77", "SIGTERM twice, SIGINT at the start")
def f77(t):
    server = t.serve()
    client = server.connect()
    client.sendall(b"half")
    with server.connect() as last:
        talk(last, b"hello\n")
    told = t.asked(server)[1]
    server.tell(signal.SIGTERM)
    server.hear(r"\[STOPPING\] 1 connections open")
    server.tell(signal.SIGTERM)
    code = server.process.wait(5)
    check(code == 143, "exit code %s", code)
    totals = server.totals()
    check(totals.get("shutdown") == 1 and totals["open"] == 0, "%s", totals)
    client.close()
    t.over(server)
    codes = set()
    for n in range(20):
        # It is over before a control client could ask.
        server = t.serve(control=None)
        server.tell(signal.SIGINT)
        codes.add(server.process.wait(5))
        t.over(server)
    check(codes == {0}, "SIGINT at once: %s", codes)
    return "143, and 20 times 0; SIGHUP has no meaning yet; %s" % told


@case("F78", "SIGKILL, and started again on the port")
def f78(t):
    server = t.serve()
    for n in range(5):
        clients = server.crowd(100)
        for client in clients:
            client.sendall(b"hello\n")
            read_exactly(client, 6)
        t.asked(server)
        server.kill()
        t.over(server)
        check(all(ends(client) for client in clients), "they are told")
        close_all(clients)
        server = t.serve(listen="127.0.0.1:%d" % server.port)
    check(server.ask(b"hello\n") == b"hello\n", "not served")
    return "5 times, 100 clients each"


@case("F79", "SIGSTOP for longer than the clocks, with data in the kernel")
def f79(t):
    seconds = 60 if t.long else 3
    flags = [] if t.long else ["--frame-timeout", "1s", "--idle-timeout", "1s"]
    # The control client's next message waits in the kernel as well.
    server = t.serve(*flags)
    begun, late = server.crowd(50), server.crowd(1)[0]
    for client in begun:
        client.sendall(b"hel")
    late.sendall(b"hel")
    with server.connect() as other:
        talk(other, b"hello\n")
    server.tell(signal.SIGSTOP)
    stopped = time.monotonic()
    for client in begun:
        client.sendall(b"lo\n")
    pause(seconds)
    server.tell(signal.SIGCONT)
    t.stands_still[server] = (time.monotonic() - stopped) * 1000
    for client in begun:
        check(read_exactly(client, 6) == b"hello\n", "timed out though its data was there")
    check(ends(late), "the late one")
    close_all(begun + [late])
    t.closes(server, peer_eof=51, frame_deadline=1)
    return "stopped for %d s: who had sent is answered, who had not is closed" % seconds


not_applicable("F80", "clocks that jump", "needs a clock of our own: the scripted kernel's tests")


def newest(pid):
    """The process that a restart of `pid` has made, if it is there."""
    try:
        with open("/proc/%d/task/%d/children" % (pid, pid)) as file:
            return (file.read().split() or [None])[-1]
    except OSError:
        return None


def end(pid):
    """A server that we did not start ourselves, but had started."""
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        pass


CALLERS, CALLS_A_SECOND = 8, 500


@case("F81", "hot restart under 500 connects a second")
def f81(t):
    if "SIGUSR2" not in t.help():
        raise Skipped("serve has no hot restart here")
    server = t.serve(control=None)
    done, failed, stop = collections.Counter(), [], threading.Event()

    def connects(number):
        # At fixed times, so that a slow call does not lower the rate.
        due = time.monotonic() + number / CALLS_A_SECOND
        while not stop.wait(max(0, due - time.monotonic())):
            due += CALLERS / CALLS_A_SECOND
            try:
                check(server.ask(b"hello\n") == b"hello\n", "no reply")
                done[number] += 1
            except (OSError, Failed) as why:
                failed.append(why)

    t.watch(server, b"hello\n", anew=True)
    callers = [threading.Thread(target=connects, args=(number,), daemon=True)
               for number in range(CALLERS)]
    begun = time.monotonic()
    for caller in callers:
        caller.start()
    old, made, times = server.pid, [], 20 if t.long else 5
    try:
        for n in range(times):
            before = len(server.heard("LISTENING"))
            os.kill(old, signal.SIGUSR2)
            server.hear("LISTENING", before + 1)
            old = int(until("a new process", lambda: newest(old)))
            made.append(old)
            pause(0.2)
        told = t.asked(server)[1]
    finally:
        took = time.monotonic() - begun
        stop.set()
        for caller in callers:
            caller.join(20)
        for pid in made:
            end(pid)
    server.process.wait(20)
    t.over(server)
    count = sum(done.values())
    check(not failed and count, "%d of %d failed: %s", len(failed), count, failed[:1])
    return "%d restarts, %d connects at %.0f a second, none failed; %s" % (
        times, count, count / took, told)


def storm(server, count, what):
    """Bad input and messages enough for every line that peers can cause."""
    text = b"hello\n" * 20
    for n in range(count):
        try:
            check(server.ask(text + b"half") == text, "%s: client %d", what, n)
        except ConnectionError:
            raise Failed("%s: client %d: the server is gone" % (what, n))


def verbose_with(t, stderr, **how):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    server = t.serve("--verbose", control=None, listen="127.0.0.1:%d" % port, stderr=stderr, **how)
    until("it listens", lambda: can_connect(server))
    server.settled()
    t.watch(server)
    return server


def can_connect(server):
    try:
        server.connect().close()
        return True
    except ConnectionError:
        return False


@case("F82", "a log on a full disk, at its size limit, closed, or a pipe that nobody reads")
def f82(t):
    with open("/dev/full", "w") as full:
        storm(verbose_with(t, full), 200, "full disk")
    with open(os.path.join(t.folder, "log"), "w") as log:
        small = verbose_with(t, log)
        limit(small, resource.RLIMIT_FSIZE, 4096)
        storm(small, 200, "size limit")
    reader, writer = os.pipe()
    gone = verbose_with(t, writer)
    os.close(reader)
    storm(gone, 200, "closed")
    os.close(writer)
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    unread = verbose_with(t, writer)
    os.close(writer)
    try:
        storm(unread, 200, "unread")
    except socket.timeout:
        raise Failed("a pipe that nobody reads stops the loop")
    finally:
        os.close(reader)
    return "200 clients, 4,200 lines each"


def printable(text):
    return all(32 <= byte < 127 for byte in text)


@case("F83", "what would be lines and commands in the log")
def f83(t):
    server = t.serve("--verbose", "-f", "u32be,max=2m", control=u32be(b"control"))
    bad = [b"a\r\n2026-01-01T00:00:00.000Z [ERROR] forged", b"\x1b[2J\x1b]0;x\x07",
           "\u202eabc".encode(), b"x" * (1 << 20), b"\0\0", bytes(range(256))]
    for text in bad:
        check(server.ask(u32be(text)) == u32be(text), "not echoed")
    server.ask(b"\xff\xff\xff\xff")
    server.hear("BAD INPUT")
    told = t.judge_now(server)
    server.hear("STOPPED")
    for text in server.lines:
        check(printable(text.encode()), "not printable: %r", text)
        check(text.startswith("20") and "Z [" in text[:26], "no record: %r", text)
        check(len(text) < 1200, "%d bytes in a line", len(text))
    longest = max(len(text) for text in server.lines)
    return "%d lines, the longest has %d bytes; %s" % (len(server.lines), longest, told)


@case("F84", "100,000 bad messages")
def f84(t):
    server = t.serve("-f", "lines,max=10")
    begun = time.monotonic()
    with server.connect() as client:
        got = talk(client, (b"x" * 20 + b"\n") * 100000 + b"good\n")
    check(got == b"good\n", "%r", got[:50])
    seconds = time.monotonic() - begun
    bad = server.heard("BAD INPUT")
    check(len(bad) <= 10 * (seconds + 2), "%d lines in %.1f s", len(bad), seconds)
    server.hear("more events not shown")
    for n in range(3000):
        rst(server.connect())
    return "%d lines for 100,000, and a count" % len(bad)


@case("F85", "too little address space for what comes")
def f85(t):
    server = t.serve("-f", "u32be", control=u32be(b"control"))
    with open("/proc/%d/statm" % server.pid) as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    limit(server, resource.RLIMIT_AS, now + (32 << 20))
    clients = server.crowd(100)
    for client in clients:
        fill(client, u32be(b"x" * (1 << 20))[:-1], patience=0.02)
    with server.connect() as client:
        check(talk(client, u32be(b"hello")) == u32be(b"hello"), "not served")
    close_all(clients)
    t.slack[server] = 40 << 20


@case("F86", "half messages beyond the budget of memory")
def f86(t):
    if "--memory" not in t.help():
        raise Skipped("serve has no --memory here")
    server = t.serve("-f", "u32be", "--memory", "32m", control=u32be(b"control"))
    clients, most, longest = server.crowd(500), 0, 0
    for client in clients:
        fill(client, u32be(b"x" * (1 << 20))[:1 << 19], patience=0.01)
        most = max(most, server.rss() - server.base["rss"])
    check(most < 1.1 * (32 << 20) + (4 << 20), "%d MiB", most >> 20)
    for n in range(3):
        begun = time.monotonic()
        with server.connect() as client:
            check(talk(client, u32be(b"hello")) == u32be(b"hello"), "newcomer %d not served", n)
        longest = max(longest, time.monotonic() - begun)
    check(longest < 5, "a newcomer waited for %.1f s", longest)
    close_all(clients)
    begun = time.monotonic()
    until("all closed", lambda: server.fds() <= server.base["fds"] + 1, 5)
    t.slack[server] = 40 << 20
    return ("%d MiB at most; newcomers waited %.1f s at most; who left was gone after %.1f s"
            % (most >> 20, longest, time.monotonic() - begun))


@case("F87", "sends that fail, or are short")
def f87(t):
    runs = 0
    for error in ("EAGAIN", "EINTR", "ENOBUFS", "ENOMEM"):
        for n in (1, 2, 5):
            # No more than there are clients, or it hits the one by which a signal
            # reaches the loop.
            spec = "sendto:error=%s:when=%d..50+3" % (error, n)
            server = t.serve(control=None, before=inject(spec))
            text = b"".join(b"%05d\n" % k for k in range(5000))
            for k in range(50):
                check(server.ask(text) == text, "%s at %d: client %d", error, n, k)
            t.judge_now(server)
            runs += 1
    # More in a row than are tried at once, and the client says nothing more.
    server = t.serve(control=None, before=inject("sendto:error=ENOBUFS:when=1..5"))
    with server.connect() as client:
        client.sendall(b"hello\n")
        check(read_exactly(client, 6) == b"hello\n", "no reply after five failed sends")
    # Short ones: the peer takes a little at a time.
    server = t.serve()
    with server.connect(rcvbuf=2048) as client:
        text = b"".join(b"%07d\n" % k for k in range(200000))
        check(talk(client, text) == text, "a byte lost or doubled")
    return "%d runs, and 1.5 MiB through a window of 2 KiB" % runs


not_applicable("F88", "events that say nothing", "the scripted kernel's tests, the simulation")


@case("F89", "9,000 ready at once, more than a batch of events")
def f89(t):
    server = t.serve()
    clients = server.crowd(9000)
    server.tell(signal.SIGSTOP)
    stopped = time.monotonic()
    for client in clients:
        client.sendall(b"hello\n")
    server.tell(signal.SIGCONT)
    t.stands_still[server] = (time.monotonic() - stopped) * 1000
    begun = time.monotonic()
    for client in answered(clients, 9000):
        check(client.recv(10) == b"hello\n", "another reply")
    took = time.monotonic() - begun
    close_all(clients)
    t.closes(server, peer_eof=9000)
    return "all answered in %.2f s" % took


@case("F90", "9,000 clocks run out in one tick")
def f90(t):
    server = t.serve("--idle-timeout", "3s")
    clients = server.crowd(9000)
    # So that all are late at the same time.
    for client in clients:
        client.sendall(b"\n")
    begun = time.monotonic()
    answered(clients, 9000)
    for client in clients:
        client.recv(1)
    closed = answered(clients, 9000)
    took = time.monotonic() - begun
    close_all(closed)
    t.closes(server, idle=9000)
    return "all closed %.1f s after" % took


# ---- F91


def honest(server, dice):
    text = b"".join(b"%d\n" % dice.randrange(1 << 30) for _ in range(dice.randrange(1, 200)))
    check(server.ask(text) == text, "an honest client got something else")


def resetter(server, dice):
    for _ in range(20):
        client = server.connect()
        client.sendall(b"x" * dice.randrange(1000) + b"\n" * dice.randrange(2))
        rst(client)


def garbage(server, dice):
    client = server.connect()
    client.sendall(dice.randbytes(dice.randrange(1, 4000)))
    close_all([client])


def too_long(server, dice):
    got = server.ask(b"x" * 70000 + b"\nnext\n")
    check(got == b"next\n", "got %r", got[:20])


def unread(server, dice):
    client = server.connect(rcvbuf=4096)
    fill(client, b"x" * 1023 + b"\n", patience=0.01)
    fill(client, (b"y" * 1023 + b"\n") * 2000, patience=0.01)
    rst(client) if dice.random() < 0.5 else client.close()


def herd(server, dice):
    clients = server.crowd(dice.randrange(10, 300))
    for client in clients:
        client.sendall(b"hello\n" if dice.random() < 0.5 else b"hel")
    close_all(clients)


def half(server, dice):
    check(server.ask(b"one\ntw") == b"one\n", "got something else")


@case("F91", "a mix of everything, by seed")
def f91(t):
    seconds = 600 if t.long else 20
    seed = int(os.environ.get("FAULTS_SEED", time.time_ns() & 0xffffffff))
    dice, server = random.Random(seed), t.serve()
    kinds = [honest, honest, honest, resetter, garbage, too_long, unread, herd, half]
    end, count, sizes = time.monotonic() + seconds, 0, []
    while time.monotonic() < end:
        dice.choice(kinds)(server, dice)
        count += 1
        # When the buffers have been as large as they will be.
        if time.monotonic() > end - seconds * (0.7 - 0.1 * len(sizes)) and len(sizes) < 7:
            sizes.append(server.rss())
    growth = sizes[-1] - sizes[0]
    check(growth < 2 << 20, "seed %d: grew by %d KiB while nothing changed", seed, growth >> 10)
    t.slack[server] = 12 << 20
    # In ten minutes there are more connections than ports.
    t.closes(server, again=1)
    return "seed %d: %d acts in %d s, rss %+d KiB from 30 %% on" % (seed, count, seconds,
                                                                   growth >> 10)
