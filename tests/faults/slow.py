"""F30 to F40: peers that are slow, or stuck. The clocks are shortened by flags; --long has
the real ones."""

import select
import signal
import socket
import subprocess
import sys
import threading
import time

from harness import (Example, answered, case, check, close_all, drip, ends, fill, read_all,
                     read_exactly, talk, u32be, until)

# What a sweep may come late, and this machine beside it.
LATE = 1.2


def clock(t, flag, short):
    """The flags for a short clock, and its seconds; or with --long the real one."""
    return ([], 30) if t.long else (["--" + flag, "%ds" % short], short)


def in_time(took, least, what):
    check(least - 0.1 <= took <= least + LATE, "%s: closed after %.2f s, not %g", what, took,
          least)


@case("F30", "5,000 connect and say nothing")
def f30(t):
    server = t.serve("--idle-timeout", "2s")
    before = server.rss()
    begun = time.monotonic()
    clients = server.crowd(5000)
    first, last = 2.0, 2.0 + time.monotonic() - begun
    each = (server.rss() - before) / 5000
    check(each < 1024, "%d bytes each", each)
    answered(clients, 1)
    took = time.monotonic() - begun
    check(took >= first - 0.1, "the first was closed after %.2f s", took)
    answered(clients, 5000)
    took = time.monotonic() - begun
    check(took <= last + LATE, "the last was closed after %.2f s", took)
    for client in clients:
        check(ends(client), "something was said")
    close_all(clients)
    t.closes(server, idle=5000)
    return "%d bytes each, all closed %.1f s after the first came" % (each, took)


@case("F31", "a byte now and then of a header, a length, a line")
def f31(t):
    flags, seconds = clock(t, "frame-timeout", 2)
    told = []
    for spec, data, control in (("ascii:8", b"00000005", b"00000007control"),
                                ("u32be", u32be(b"x" * 2000), u32be(b"control")),
                                ("lines", b"x", b"control\n")):
        server = t.serve("-f", spec, *flags, control=control)
        with server.connect() as client:
            took = drip(client, data, seconds / 8 if spec != "ascii:8" else seconds / 4,
                        seconds + 10)
        in_time(took, seconds, spec)
        told.append("%s %.1f s" % (spec, took))
        t.closes(server, frame_deadline=1)
    return ", ".join(told)


@case("F32", "the body of an announced message, dripped")
def f32(t):
    flags, seconds = clock(t, "frame-timeout", 1)
    server = t.serve("-f", "u32be", *flags, control=u32be(b"control"))
    announced = (1 << 20 if t.long else 8192)
    with server.connect() as client:
        client.sendall(u32be(b"x" * announced)[:4])
        took = drip(client, b"x", 0.01, seconds + announced / 4096 + 10)
    in_time(took, seconds + announced / 4096, "%d bytes announced" % announced)
    t.closes(server, frame_deadline=1)
    return "closed after %.1f s" % took


@case("F33", "line ends and white space only, for ever")
def f33(t):
    lines = t.serve()
    with lines.connect() as client:
        flood = b"\n" * (4 << 20)
        check(talk(client, flood) == flood, "empty lines are messages, too")
    json = t.serve("-f", "json", "--frame-timeout", "1s", control=b"[1]", reply=b"[1]\n")
    with json.connect() as client:
        end = time.monotonic() + 2.5
        while time.monotonic() < end:
            client.sendall(b" \n")
            check(not select.select([client], [], [], 0.05)[0], "white space is nobody's message")
        client.sendall(b"[2]\n")
        check(read_exactly(client, 4) == b"[2]\n", "not served after white space")
    with json.connect() as client:
        client.sendall(b"[3,")
        in_time(drip(client, b" ", 0.05, 10), 1, "white space inside a message")
    t.closes(json, frame_deadline=1, peer_eof=1)


def closed_by(server, reason, since, patience):
    server.hear(r"\[CLOSED\] .*: " + reason, patience=patience)
    return time.monotonic() - since


@case("F34", "10,000 requests, and the replies are never read")
def f34(t):
    flags, seconds = clock(t, "write-timeout", 2)
    server = t.serve(*flags)
    client, before = server.connect(rcvbuf=4096), server.rss()
    begun = time.monotonic()
    sent = fill(client, (b"x" * 1023 + b"\n") * 10000)
    grown = server.rss() - before
    check(sent < 9 << 20, "it took all of it")
    check(grown < 1 << 20, "%d KiB for one peer", grown >> 10)
    took = closed_by(server, "write_stall", begun, seconds + 10)
    check(took >= seconds - 0.1, "closed after %.1f s", took)
    client.close()
    t.closes(server, write_stall=1)
    return "took %d KiB, then closed after %.1f s, rss +%dK" % (sent >> 10, took, grown >> 10)


@case("F35", "reads a byte a second")
def f35(t):
    flags, seconds = clock(t, "write-timeout", 2)
    server = t.serve(*flags)
    client = server.connect(rcvbuf=4096)
    begun = time.monotonic()
    fill(client, (b"x" * 1023 + b"\n") * 10000)
    reading = threading.Event()

    def reader():
        while not reading.wait(1):
            try:
                client.recv(1)
            except OSError:
                return

    threading.Thread(target=reader, daemon=True).start()
    took = closed_by(server, "write_stall", begun, seconds + 15)
    reading.set()
    client.close()
    t.closes(server, write_stall=1)
    return "closed after %.1f s" % took


# A client that is stopped, so that its window fills and nobody says a word.
STOPPED = """
import socket, sys, time
client = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
client.settimeout(0.3)
try:
    while True:
        client.send(b"x" * 1023 + b"\\n")
except socket.timeout:
    pass
print("full", flush=True)
sys.stdin.read()
"""


@case("F36", "the window is full and the client is stopped")
def f36(t):
    flags, seconds = clock(t, "write-timeout", 2)
    server = t.serve(*flags)
    client = subprocess.Popen([sys.executable, "-c", STOPPED, str(server.port)],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        check(client.stdout.readline() == b"full\n", "the client failed")
        client.send_signal(signal.SIGSTOP)
        took = closed_by(server, "write_stall", time.monotonic(), seconds + 10)
    finally:
        client.kill()
        client.wait()
    t.closes(server, write_stall=1)
    return "closed after %.1f s" % took


def read_lines(clients, want):
    """Reads `want` bytes from each, as they come."""
    poll, left = select.poll(), {}
    for client in clients:
        left[client.fileno()] = [client, want]
        poll.register(client, select.POLLIN)
    while left:
        ready = poll.poll(30000)
        check(ready, "%d of %d were not sent everything", len(left), len(clients))
        for fd, _ in ready:
            entry = left[fd]
            got = len(entry[0].recv(1 << 18))
            entry[1] -= got
            check(got and entry[1] >= 0, "closed, or too much: %d left", entry[1])
            if entry[1] == 0:
                poll.unregister(fd)
                del left[fd]


@case("F37", "a broadcast to fast ones and 50 mutes")
def f37(t):
    fast_ones, lines = 1000, 1000 if t.long else 600
    # Long, so that it is the limit of what waits that ends them: what all wait for is kept once,
    # and memory alone would not show that it has one.
    server = t.serve("--service", "broadcast", "--write-timeout", "1m", control=None)
    fast = server.crowd(fast_ones)
    mute = server.crowd(50, rcvbuf=4096)
    sender = server.connect()
    until("all open", lambda: server.fds() >= server.base["fds"] + fast_ones + 51)
    t.watch_ends(server)
    before = server.rss()
    begun, sent = time.monotonic(), 0
    # As fast as the fast ones read.
    for _ in range(lines // 20):
        piece = (b"x" * 1023 + b"\n") * 20
        sender.sendall(piece)
        read_lines(fast, len(piece))
        sent += len(piece)
    took, grown = time.monotonic() - begun, server.rss() - before
    until("the mutes closed", lambda: server.fds() <= server.base["fds"] + fast_ones + 1)
    check(grown < 50 * (256 << 10) + (8 << 20), "%d KiB", grown >> 10)
    t.slack[server] = 50 * (256 << 10)
    asked = t.asked(server)[1]
    close_all(fast + mute + [sender])
    server.idle_after(3)
    code = server.stop()
    totals = server.totals()
    check(code == 0 and totals.get("output_cap", 0) == 50, "the mutes: %s", totals)
    t.over(server)
    return "%d fast ones have all %d KiB in %.1f s, rss +%dK, 50 output_cap; %s" % (
        fast_ones, sent >> 10, took, grown >> 10, asked)


@case("F38", "1,000,000 requests, nothing read, and then all of it")
def f38(t):
    server = t.serve()
    client, before = server.connect(rcvbuf=4096), server.rss()
    text = b"".join(b"%09d\n" % n for n in range(1000000))
    sent = fill(client, text)
    grown = server.rss() - before
    check(grown < 512 << 10, "%d KiB", grown >> 10)
    check(sent < len(text), "it took all of it")
    sender = threading.Thread(target=client.sendall, args=(text[sent:],), daemon=True)
    sender.start()
    check(read_exactly(client, len(text)) == text, "the replies are others")
    sender.join()
    client.close()
    t.closes(server, peer_eof=1)
    return "took %d KiB of %d, rss +%dK; then every reply" % (sent >> 10, len(text) >> 10,
                                                             grown >> 10)


@case("F39", "one sends at line rate beside 1,000 quiet ones")
def f39(t):
    server = t.serve()
    quiet, greedy = server.crowd(1000), server.connect()
    stop, moved = threading.Event(), [0, 0]

    def send():
        data = (b"x" * 60 + b"\n") * 1000
        while not stop.is_set():
            greedy.sendall(data)
            moved[0] += len(data)
        greedy.shutdown(socket.SHUT_WR)

    def receive():
        moved[1] = len(read_all(greedy))

    threads = [threading.Thread(target=act, daemon=True) for act in (send, receive)]
    for thread in threads:
        thread.start()
    end = time.monotonic() + 2
    while time.monotonic() < end:
        for client in quiet[:50]:
            client.sendall(b"hello\n")
        for client in quiet[:50]:
            check(read_exactly(client, 6) == b"hello\n", "another reply")
    stop.set()
    for thread in threads:
        thread.join(20)
    check(moved[0] == moved[1], "%d bytes sent, %d back", *moved)
    close_all(quiet + [greedy])
    return "%d MiB" % (moved[0] >> 20)


@case("F40", "handlers that are slow, panic, or reply 100 MiB")
def f40(t):
    slow = t.serve(kind=Example)
    # A handler that stands still has the one loop stand still: all that can be promised is
    # that nobody waits for longer than it did.
    t.stands_still[slow] = 300
    for _ in range(3):
        check(slow.ask(b"sleep 300\n") == b"awake\n", "the slow one is answered, too")
    took = int(slow.hear(r"its turn took (\d+) ms, and all others waited").group(1))
    check(300 <= took < 400, "the warning says %d ms", took)
    t.closes(slow, peer_eof=3)
    panics = t.serve(kind=Example)
    for n in range(20):
        check(panics.ask(b"hello\n") == b"hello\n", "not served behind panic %d", n)
        with panics.connect() as client:
            client.sendall(b"panic\n")
            check(ends(client), "panic %d: the one who asked for it", n)
    panics.hear("the service panicked; this connection is closed")
    t.closes(panics, peer_eof=20, handler_panic=20)
    large = t.serve(kind=Example)
    # To make 100 MiB takes a while, in which the service stands still as well.
    t.stands_still[large] = 200
    before, most = large.rss(), 0
    for n in range(5):
        for words in (b"reply 100\n", b"flood 100\n"):
            with large.connect() as client:
                client.sendall(words)
                check(ends(client), "%r: something was said", words)
            most = max(most, large.rss() - before)
    check(most < 4 << 20, "%d KiB more behind a refused reply", most >> 10)
    t.closes(large, bad_reply=5, output_cap=5)
    aborts = t.serve("--abort", kind=Example, control=None)
    with aborts.connect() as client:
        client.sendall(b"panic\n")
        check(ends(client), "told something")
    code = aborts.process.wait(5)
    check(code == 101, "with --abort: exit code %s", code)
    t.over(aborts)
    return "the warning said %d ms; 20 panics, 10 refused replies, and one panic to abort" % took
