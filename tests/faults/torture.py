"""The Nth system call fails, for each N and errno.

    python3 tests/faults/torture.py                 # about two minutes: several N a run
    python3 tests/faults/torture.py --full          # each N from 1 to 50 in a run of its own
    python3 tests/faults/torture.py accept4         # these calls only
    python3 tests/faults/torture.py --list

strace tampers with the calls that the program really makes: accept4, epoll_ctl, epoll_wait,
recvfrom, sendto, shutdown. In each run a few clients, one behind the other and some side by
side, send lines and want each of them back. What has to be, whatever failed:

- no crash, and it ends with 0 when it is told to;
- a client hears its replies in order, each once; or, where a call of its own connection
  failed, the first of them and then an end, soon;
- no more clients are hit than calls failed, and none by an errno that is to be tried again;
- descriptors are back, and accepted = closed by all reasons.

Without strace it says so and exits with 0. Exits with 1 if one run failed.
"""

import argparse
import os
import shutil
import socket
import sys
import tempfile
import time

sys.dont_write_bytecode = True

import harness
from harness import Failed, Run, check, inject, talk, until
from run import find_binary

# Each errno, and whether a client may lose its connection by it.
RETRIED, HIT = False, True
CALLS = {
    "accept4": [("EINTR", RETRIED), ("ECONNABORTED", RETRIED), ("EPROTO", RETRIED),
                ("ENETDOWN", RETRIED), ("EPERM", RETRIED), ("ENOBUFS", RETRIED),
                ("ENOMEM", RETRIED), ("EMFILE", HIT), ("ENFILE", HIT)],
    "epoll_ctl": [("ENOMEM", HIT), ("ENOSPC", HIT)],
    "epoll_wait": [("EINTR", RETRIED)],
    "recvfrom": [("EINTR", RETRIED), ("ENOMEM", HIT), ("ECONNRESET", HIT),
                 ("ETIMEDOUT", HIT), ("EHOSTUNREACH", HIT)],
    "sendto": [("EINTR", RETRIED), ("EAGAIN", RETRIED), ("ENOBUFS", RETRIED),
               ("ENOMEM", RETRIED), ("EPIPE", HIT), ("ECONNRESET", HIT), ("ETIMEDOUT", HIT)],
    "shutdown": [("ENOTCONN", HIT), ("ENOBUFS", HIT)],
}
# The loop's own before it listens: to fail there is to fail to start.
FIRST = {"epoll_ctl": 4}
# Less than the clients' messages: behind them comes the sendto by which a signal reaches the
# loop, which goes to the process itself and cannot fail.
LAST = 50
# What is EAGAIN to a reader that is edge-triggered means that there is nothing: strace
# would make it a lie, as no edge follows. So recvfrom is not given it.
ROUNDS, SIDE_BY_SIDE = 20, 5


def text_of(n):
    return b"".join(b"%d says %d\n" % (n, k) for k in range(3))


def one_client(server, n):
    """Whether it got everything; fails for what may never be."""
    wanted = text_of(n)
    try:
        with server.connect(timeout=10) as client:
            got = talk(client, wanted)
    except ConnectionError:
        return False
    except socket.timeout:
        raise Failed("client %d: neither its replies nor an end" % n)
    check(wanted.startswith(got), "client %d: %r", n, got)
    return got == wanted


def side_by_side(server, base):
    """Several at once, each with two messages: how many were hit."""
    clients, hit = [], 0
    for n in range(SIDE_BY_SIDE):
        clients.append(server.connect(timeout=10))
    for round in range(2):
        for n, client in enumerate(clients):
            if client is None:
                continue
            wanted = b"%d, %d\n" % (base + n, round)
            got = exchange(client, wanted)
            check(wanted.startswith(got), "client %d: %r", base + n, got)
            if got != wanted:
                client.close()
                clients[n], hit = None, hit + 1
    harness.close_all([client for client in clients if client])
    return hit


def exchange(client, message):
    got = b""
    try:
        client.sendall(message)
        while not got.endswith(b"\n"):
            data = client.recv(100)
            if not data:
                break
            got += data
    except ConnectionError:
        pass
    except socket.timeout:
        raise Failed("neither a reply to %r nor an end" % message)
    return got


def torment(binary, call, error, may_hit, when, failures):
    """One run; returns how many clients were hit."""
    run = Run(binary, False, None)
    try:
        server = run.serve(control=None, before=inject("%s:error=%s:when=%s" % (call, error, when)))
        hit = 0
        for n in range(ROUNDS):
            hit += not one_client(server, n)
            if n % 4 == 0:
                hit += side_by_side(server, 100 * (n + 1))
        check(may_hit or hit == 0, "%d clients lost by an errno that is to be tried again", hit)
        check(hit <= failures, "%d clients lost by %d failures", hit, failures)
        run.judge_now(server)
        return hit
    finally:
        run.clean_up()


def several(call):
    """Some runs that together fail each N from 1 to 50 once: every fifth in each."""
    first = FIRST.get(call, 1)
    for n in range(first, first + 5):
        yield "%d..%d+5" % (n, LAST), len(range(n, LAST + 1, 5))


def each(call):
    for n in range(FIRST.get(call, 1), LAST + 1):
        yield str(n), 1


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("calls", nargs="*")
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--binary")
    args = parser.parse_args()
    if args.list:
        for call, errors in CALLS.items():
            print(call, " ".join(name for name, _ in errors))
        return
    if shutil.which("strace") is None:
        print("skipped: no strace")
        return
    harness.raise_own_limit()
    binary, failed, runs = find_binary(args.binary), 0, 0
    for call in args.calls or CALLS:
        for error, may_hit in CALLS[call]:
            begun, hit, bad = time.monotonic(), 0, []
            for when, failures in (each if args.full else several)(call):
                runs += 1
                try:
                    hit += torment(binary, call, error, may_hit, when, failures)
                except Exception as why:  # each run by itself
                    bad.append("when=%s: %s %s" % (when, type(why).__name__, why))
            failed += len(bad)
            print("%-10s %-12s %-4s %5.1fs  %d clients hit %s" % (
                call, error, "FAIL" if bad else "ok", time.monotonic() - begun, hit,
                "; ".join(bad)), flush=True)
    print("%d runs, %d failed" % (runs, failed))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
