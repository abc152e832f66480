"""F15 to F29: how connections end."""

import os
import shutil
import signal
import socket
import subprocess
import time

from harness import (Failed, ascii8, case, check, close_all, not_applicable, read_all,
                     read_exactly, rst, strace, talk, u32be, until)


@case("F15", "FIN behind a request")
def f15(t):
    server = t.serve()
    text = b"".join(b"%d\n" % n for n in range(10000))
    for _ in range(20):
        check(server.ask(text) == text, "not the whole reply")
    t.closes(server, peer_eof=20)


@case("F16", "FIN inside a message")
def f16(t):
    server = t.serve("-f", "u32be", control=u32be(b"control"))
    frame = u32be(b"hello")
    for cut in range(1, len(frame)):
        check(server.ask(frame + frame[:cut]) == frame, "cut at %d", cut)
    t.closes(server, truncated=len(frame) - 1)


@case("F17", "data and FIN in one segment, 1,000 times")
def f17(t):
    server = t.serve()
    for n in range(1000):
        with server.connect() as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
            client.sendall(b"hello %d\n" % n)
            client.shutdown(socket.SHUT_WR)
            check(read_all(client) == b"hello %d\n" % n, "client %d", n)
    t.closes(server, peer_eof=1000)


@case("F18", "a reset inside a message, inside a reply, and with output queued")
def f18(t):
    server = t.serve("-f", "u32be", control=u32be(b"control"))
    frame, count = u32be(b"hello" * 20), 0
    for cut in range(1, len(frame)):
        client = server.connect()
        client.sendall(frame[:cut])
        rst(client)
        count += 1
    big = u32be(b"x" * 60000)
    for taken in range(0, 50000, 1000):
        client = server.connect(rcvbuf=4096)
        client.sendall(big)
        read_exactly(client, taken)
        rst(client)
        count += 1
    for _ in range(20):
        # More than the kernel takes for who does not read.
        client = server.connect(rcvbuf=4096)
        client.settimeout(0.2)
        try:
            client.sendall(big * 20)
        except socket.timeout:
            pass
        rst(client)
        count += 1
    t.closes(server, peer_reset=count)
    return "%d resets" % count


@case("F19", "a reset with input unread")
def f19(t):
    server = t.serve()
    for _ in range(200):
        client = server.connect()
        client.sendall(b"x" * 63 * 1024 + b"\n")
        rst(client)
    t.closes(server, peer_reset=200)


@case("F20", "9,900 close at once, in order and by reset")
def f20(t):
    server = t.serve()
    told = []
    for how in (socket.socket.close, rst):
        clients = server.crowd(9900)
        until("all open", lambda: server.fds() > server.base["fds"] + 9900)
        begun = time.monotonic()
        for client in clients:
            how(client)
        closing = time.monotonic() - begun
        until("all reaped", lambda: server.fds() <= server.base["fds"] + 1)
        reaped = time.monotonic() - begun - closing
        check(reaped < 1, "reaped %.2f s after", reaped)
        told.append("reaped %.2f s after" % reaped)
    t.closes(server, peer_eof=9900, peer_reset=9900)
    return ", ".join(told)


not_applicable("F21", "a neighbour of the same batch is closed",
               "no service of the program closes another connection: tests/scripted_kernel.rs")
not_applicable("F22", "close and accept inside one turn",
               "as F21: tests/scripted_kernel.rs")


@case("F23", "1,000 times from the same port, each ends by a reset inside a message")
def f23(t):
    server = t.serve()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    for n in range(1000):
        client = server.connect(source=("127.0.0.1", port))
        client.sendall(b"%d\nhalf a li" % n)
        got = read_exactly(client, len(b"%d\n" % n))
        check(got == b"%d\n" % n, "%d got %r", n, got)
        rst(client)
    t.closes(server, peer_reset=1000, again=1)


def broadcast(t, *flags):
    return t.serve("--service", "broadcast", *flags, control=None)


@case("F24", "peers leave while they are sent a broadcast")
def f24(t):
    server = broadcast(t)
    stay, leave = server.crowd(50), server.crowd(50)
    sender = server.connect()
    until("all open", lambda: server.fds() >= server.base["fds"] + 101)
    t.watch_ends(server)
    text = b"".join(b"%06d %s\n" % (n, b"x" * 100) for n in range(2000))
    part = len(text) // 50
    for n, client in enumerate(leave):
        sender.sendall(text[n * part:(n + 1) * part])
        rst(client) if n % 2 else client.close()
    sender.sendall(text[50 * part:])
    for n, client in enumerate(stay):
        check(read_exactly(client, len(text)) == text, "client %d did not get each byte once", n)
    close_all(stay + [sender])


# Rust has a process ignore SIGPIPE before `main`. A host in C does not, and with this in
# front of the C library the program is like one.
LIKE_A_HOST_IN_C = """
#include <signal.h>
void (*signal(int number, void (*handler)(int)))(int) {
    struct sigaction now = {.sa_handler = handler}, before;
    if (number == SIGPIPE) return SIG_DFL;
    return sigaction(number, &now, &before) ? SIG_ERR : before.sa_handler;
}
"""


def like_a_host_in_c(t):
    """The words to put before the command, and an environment with that in front."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    path = os.path.join(t.folder, "host.so")
    built = subprocess.run([compiler, "-shared", "-fPIC", "-o", path, "-x", "c", "-"],
                           input=LIKE_A_HOST_IN_C.encode(), stderr=subprocess.PIPE)
    check(built.returncode == 0, "cc: %s", built.stderr[-200:])
    return ["env", "LD_PRELOAD=" + path]


def ignores_sigpipe(server):
    with open("/proc/%d/status" % server.pid) as file:
        mask = int(file.read().split("SigIgn:")[1].split()[0], 16)
    return bool(mask >> (signal.SIGPIPE - 1) & 1)


def resets_behind_fin(server):
    """Requests, FIN, and a reset while they are answered: where a write says EPIPE."""
    for _ in range(200):
        client = server.connect()
        client.sendall(b"hello\n" * 5000)
        client.shutdown(socket.SHUT_WR)
        rst(client)


@case("F25", "a peer that is gone does not kill by SIGPIPE")
def f25(t):
    trace = os.path.join(t.folder, "sends")
    words = strace("-e", "trace=sendto,sendmsg,write,writev")
    words[words.index("/dev/null")] = trace
    server = t.serve(control=None, before=words)
    resets_behind_fin(server)
    check(server.ask(b"hello\n") == b"hello\n", "not served")
    # Behind it there are those of the signal, to the process itself.
    with open(trace) as file:
        sends = [text for text in file if "sendto(" in text or "sendmsg(" in text]
    bad = [text for text in sends if "MSG_NOSIGNAL" not in text]
    check(sends and not bad, "without MSG_NOSIGNAL: %s", bad[:1])
    told = "%d sends, each with MSG_NOSIGNAL; %d said EPIPE" % (
        len(sends), sum("EPIPE" in text for text in sends))
    host = like_a_host_in_c(t)
    if host is None:
        return told + "; no cc, so not as in a host of C"
    server = t.serve(before=host)
    check(not ignores_sigpipe(server), "it ignores SIGPIPE, so this shows nothing")
    resets_behind_fin(server)
    check(server.ask(b"hello\n") == b"hello\n", "not served")
    return told + "; and with the signal's default, as in a host of C"


@case("F26", "descriptors in a child")
def f26(t):
    server = t.serve()
    clients = server.crowd(3)
    for client in clients:
        client.sendall(b"hello\n")
        read_exactly(client, 6)
    folder = "/proc/%d/fdinfo" % server.pid
    for fd in os.listdir(folder):
        with open(os.path.join(folder, fd)) as file:
            flags = int(file.read().split("flags:")[1].split()[0], 8)
        check(int(fd) < 3 or flags & os.O_CLOEXEC, "%s would be inherited", fd)
    close_all(clients)
    return "all are close-on-exec"


@case("F27", "a bad message and 1 MiB behind it: the refusal arrives")
def f27(t):
    server = t.serve("-f", "ascii:8", "--http-courtesy", control=ascii8(b"control"))
    for n in range(20):
        with server.connect() as client:
            got = talk(client, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" + b"x" * (1 << 20))
        check(got.endswith(b"this port does not speak HTTP\n"), "%d got %r", n, got)
    good = ascii8(b"y" * 1000) * 60
    with server.connect(rcvbuf=8192) as client:
        got = talk(client, good + b"bad" + b"x" * (1 << 20))
    check(got == good, "%d of %d bytes of the replies before it", len(got), len(good))
    t.closes(server, bad_frame=21)


@case("F28", "10,000 urgent bytes")
def f28(t):
    server = t.serve()
    client = server.connect()
    for _ in range(10000):
        client.send(b"!", socket.MSG_OOB)
    client.sendall(b"hello\n")
    client.shutdown(socket.SHUT_WR)
    got = read_all(client)
    client.close()
    check(got.strip(b"!") == b"hello\n", "got %r", got[-20:])
    t.closes(server, peer_eof=1)


@case("F29", "a client that has the server's own port")
def f29(t):
    server = t.serve()
    client = server.connect(source=("127.0.0.2", server.port))
    check(talk(client, b"hello\n") == b"hello\n", "not served")
    client.close()
    alone = socket.socket()
    alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        alone.bind((server.host, server.port))
        raise Failed("the port can be had twice")
    except OSError:
        pass
    alone.close()
    return "from 127.0.0.2; its very address cannot be bound"
