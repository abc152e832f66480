"""A hostile crowd, and honest clients among it.

    python3 tests/faults/crowd.py                       # 15,000 hostile, 4,000 honest, a minute
    python3 tests/faults/crowd.py --memory 64m          # with less than they want to hold
    python3 tests/faults/crowd.py --lorises 500 --mutes 500 --garbage 500 --honest 400

Three kinds of clients, a process each, do their worst to one `oneloop serve`:

- lorises begin a message and send a byte of it every few seconds;
- mutes: half of them never send, half send and never read;
- garbage: a first byte, and soon random ones, which break the framing; who is closed calls
  again at once.

Whoever of the first two is closed by a clock calls again, too. `oneloop bench` is the honest
ones: messages at fixed times, each reply compared. They are there two seconds before the
crowd comes, and the same was asked before, of the server alone; its p99 is told beside. And
every 50 ms a newcomer calls, asks once and leaves; how long that takes is told.

Asserted: honest p99 < 50 ms (corrected: from when a message was due), no error, all of the
honest answered; each newcomer served; memory of the process at most the budget (--memory) and
1 KiB for each connection beside what it had at the start, and at most what it says itself in
its line [MEMORY]; no panic, counters that balance.

Standard library only, and one machine: at most 20,000 descriptors for a process.
"""

import argparse
import collections
import errno
import heapq
import json
import os
import random
import select
import signal
import socket
import subprocess
import sys
import threading
import time

sys.dont_write_bytecode = True

import harness
from harness import P99_MS, Failed, Server, ahead_of_others, check, pause, u32be
from run import find_binary

# Their own addresses, for their own ports: there are 28,000 for each.
HOME = {"lorises": "127.0.1.1", "mutes": "127.0.2.1", "garbage": "127.0.3.1"}
HOMES = 4
# A loris sends this often, in seconds; several of these fit into the clock of a message.
DRIP_EVERY = 5.0
# Garbage is a first byte, and this many seconds later the rest.
GARBAGE_AFTER = 0.5
# At most so many callers wait to be connected, of one kind.
CALLING = 200
MESSAGE = u32be(b"x" * 1020)


class Crowd:
    """One kind of clients, in a process of its own."""

    def __init__(self, kind, count, port):
        self.kind, self.count, self.port = kind, count, port
        self.dice = random.Random(kind)
        self.poll = select.epoll()
        self.clients, self.calling = {}, set()
        # Who is to send its next byte, and when.
        self.due = []
        # How far into a message a mute has come.
        self.sent = {}
        self.tally = collections.Counter()
        self.home = 0

    def call(self):
        client = socket.socket()
        client.setblocking(False)
        # Or the kernel holds megabytes for each who does not read.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT
        self.home = (self.home + 1) % HOMES
        address = HOME[self.kind][:-1] + str(self.home + 1)
        client.bind((address, 0))
        client.connect_ex(("127.0.0.1", self.port))
        self.clients[client.fileno()] = client
        self.calling.add(client.fileno())
        self.poll.register(client, select.EPOLLOUT)

    def connected(self, fd):
        self.calling.discard(fd)
        client = self.clients[fd]
        why = client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if why:
            self.tally[errno.errorcode[why]] += 1
            return self.ended(fd)
        self.tally["connected"] += 1
        getattr(self, "begin_" + self.kind)(fd, client)

    def begin_lorises(self, fd, client):
        # Each fourth announces as much as may be.
        length = (1 << 20) if fd % 4 == 0 else 1 + fd
        client.send(u32be(b"x" * length)[:4])
        self.poll.modify(fd, select.EPOLLIN)
        self.later(DRIP_EVERY * self.dice.random(), fd, client)

    def begin_mutes(self, fd, client):
        if fd % 2:
            self.poll.modify(fd, select.EPOLLIN)
        else:
            # It sends whenever that is possible, and reads never.
            self.poll.modify(fd, select.EPOLLOUT | select.EPOLLET)
            self.sent[fd] = 0
            self.shout(fd, client)

    def begin_garbage(self, fd, client):
        # It has its place for a while, or there would never be 5,000 of them.
        client.send(b"\xff")
        self.poll.modify(fd, select.EPOLLIN)
        self.later(GARBAGE_AFTER, fd, client)

    def shout(self, fd, client):
        try:
            while True:
                # Where the last one left off, or it is garbage.
                sent = client.send((MESSAGE * 5)[self.sent.get(fd, 0):])
                self.sent[fd] = (self.sent.get(fd, 0) + sent) % len(MESSAGE)
                self.tally["bytes"] += sent
        except BlockingIOError:
            pass
        except OSError:
            self.ended(fd)

    def ended(self, fd):
        self.tally["ended"] += 1
        self.calling.discard(fd)
        self.clients.pop(fd).close()

    def look(self, fd, events):
        if fd not in self.clients:
            return
        client = self.clients[fd]
        if fd in self.calling:
            return self.connected(fd)
        if events & (select.EPOLLHUP | select.EPOLLERR):
            return self.ended(fd)
        if self.kind == "mutes" and events & select.EPOLLOUT:
            return self.shout(fd, client)
        try:
            if not client.recv(4096):
                self.ended(fd)
        except BlockingIOError:
            pass
        except OSError:
            self.ended(fd)

    def later(self, seconds, fd, client):
        # Only one of them has this descriptor, but another may have had it before.
        heapq.heappush(self.due, (time.monotonic() + seconds, fd, id(client)))

    def send_what_is_due(self):
        now = time.monotonic()
        while self.due and self.due[0][0] <= now:
            _, fd, name = heapq.heappop(self.due)
            client = self.clients.get(fd)
            if client is None or id(client) != name:
                continue
            if self.kind == "lorises":
                data = b"x"
                self.later(DRIP_EVERY, fd, client)
            else:
                data = self.dice.randbytes(self.dice.randrange(3, 2000))
            try:
                self.tally["bytes"] += client.send(data)
            except OSError:
                pass  # closed, which the next event tells

    def run(self):
        """Until stdin closes; tells when all are there, and at the end what they did."""
        self.poll.register(sys.stdin, select.EPOLLIN | select.EPOLLHUP)
        told = False
        while True:
            while len(self.clients) < self.count and len(self.calling) < CALLING:
                self.call()
            for fd, events in self.poll.poll(0.2):
                if fd == sys.stdin.fileno():
                    print(json.dumps(dict(self.tally, open=len(self.clients))), flush=True)
                    return
                self.look(fd, events)
            self.send_what_is_due()
            if not told and len(self.clients) - len(self.calling) >= self.count * 0.95:
                told = True
                print("ready", flush=True)


class Process:
    """A `Crowd`, seen from outside."""

    def __init__(self, kind, count, port):
        self.kind, self.count, self.begun = kind, count, time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-B", os.path.abspath(__file__), "--crowd", kind, str(count),
             str(port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)

    def ready(self, patience):
        """Whether (nearly) all have been taken by then, if only by the kernel."""
        found = select.select([self.process.stdout], [], [], patience)[0]
        return bool(found) and self.process.stdout.readline() == b"ready\n"

    def report(self):
        self.process.stdin.close()
        line = self.process.stdout.readline()
        return json.loads(line if line != b"ready\n" else self.process.stdout.readline())

    def kill(self):
        self.process.kill()
        self.process.wait()


class Memory(threading.Thread):
    """Looks how large the server is, and keeps the largest."""

    def __init__(self, server):
        super().__init__(daemon=True)
        self.server, self.most, self.stop = server, 0, threading.Event()
        self.start()

    def run(self):
        while not self.stop.wait(0.1):
            try:
                self.most = max(self.most, self.server.rss())
            except OSError:
                return


class Honest:
    """`oneloop bench`, and what it found."""

    def __init__(self, binary, server, count, rate, seconds):
        self.bench = subprocess.Popen(
            [binary, "bench", "%s:%d" % (server.host, server.port), "-f", "u32be", "-c",
             str(count), "-r", str(rate), "-d", "%gs" % seconds, "--check", "echo", "--stamp",
             "--connect-timeout", "30s", "--json", "-q"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
        ahead_of_others(self.bench.pid)

    def report(self):
        told, said = self.bench.communicate()
        check(self.bench.returncode == 0, "bench: %d %s", self.bench.returncode,
              said.decode()[-500:])
        return json.loads(told)

    def kill(self):
        self.bench.kill()
        self.bench.wait()


def newcomers(port):
    """One every 50 ms, until stdin closes: how long until it had its reply, in ms."""
    took, failed = [], []
    while not select.select([sys.stdin], [], [], 0.05)[0]:
        begun = time.monotonic()
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
                client.sendall(u32be(b"hello"))
                check(harness.read_exactly(client, 9) == u32be(b"hello"), "another reply")
            took.append((time.monotonic() - begun) * 1000)
        except (OSError, Failed) as why:
            failed.append(str(why))
    took.sort()
    print(json.dumps({"count": len(took), "failed": failed[:5], "p50": took[len(took) // 2],
                      "p99": took[len(took) * 99 // 100], "max": took[-1]}), flush=True)


def told_of(what, end):
    """The line of an honest run, and its p99 in milliseconds."""
    times = end["latency_us"]["corrected"]
    errors = {name: count for name, count in end["errors"].items() if count}
    print("%-8s %d connected, %d messages sent, %d answered, errors %s; p50 %.2f ms, p99 %.2f, "
          "p99.9 %.2f, longest %.1f; connecting: p99 %.0f ms" % (
              what, end["connected"], end["sent"], end["received"], errors or "none",
              times["p50"] / 1e3, times["p99"] / 1e3, times["p99.9"] / 1e3, times["max"] / 1e3,
              end["connect_us"]["p99"] / 1e3), flush=True)
    slow = ["%.0f ms at %.0f s" % (part["latency_us"]["p99"] / 1e3, part["t_s"])
            for part in end["intervals"]
            if part["latency_us"] and part["latency_us"]["p99"] > 1e3 * P99_MS]
    if slow:
        print("         p99 of a second above the limit: %s" % ", ".join(slow))
    for warning in end["warnings"]:
        print("         %s" % warning)
    return times["p99"] / 1e3


def size(text):
    unit = {"k": 10, "m": 20, "g": 30}.get(text[-1:].lower())
    return int(text[:-1]) << unit if unit else int(text)


def run(args, binary):
    hostile = args.lorises + args.mutes + args.garbage
    # For those who were closed already, and wait for our side of it.
    room = min(hostile + args.honest + 500, 19500)
    server = Server(binary, "-f", "u32be", "--max-connections", str(room), "--memory", args.memory)
    parts = []
    try:
        quiet = Honest(binary, server, args.honest, args.rate, min(args.seconds, 10))
        parts.append(quiet)
        told_of("alone", quiet.report())
        pause(1)
        server.settled()
        memory, before = Memory(server), server.cpu()
        among = Honest(binary, server, args.honest, args.rate, args.seconds)
        parts.append(among)
        pause(2)
        begun = time.monotonic()
        crowds = [Process(kind, getattr(args, kind), server.port) for kind in HOME]
        parts.extend(crowds)
        new = Process("newcomers", 0, server.port)
        parts.append(new)
        ahead_of_others(new.process.pid)
        for crowd in crowds:
            if not crowd.ready(args.seconds / 4):
                print("%-8s not all of them were taken within %g s" % (crowd.kind,
                                                                     args.seconds / 4))
        came, places = time.monotonic() - begun, [server.fds() - server.base["fds"]]
        while among.bench.poll() is None and time.monotonic() - begun < args.seconds - 5:
            places.append(server.fds() - server.base["fds"])
            pause(0.5)
        end, used = among.report(), server.cpu() - before
        p99 = told_of("among", end)
        for crowd in crowds:
            print("%-8s %s" % (crowd.kind, tally(crowd.report())))
        newcomer = new.report()
        print("newcomer %(count)d served, failed %(failed)s; p50 %(p50).1f ms, p99 %(p99).1f, "
              "longest %(max).1f" % newcomer)
        memory.stop.set()
        grown, most = memory.most - server.base["rss"], size(args.memory) + (room << 10)
        print("server   the crowd called within %.1f s, %d to %d open then; %.1f s of CPU; memory "
              "%d KiB and %+d at most, allowed are %+d" % (
                  came, min(places), max(places), used, server.base["rss"] >> 10, grown >> 10,
                  most >> 10), flush=True)
        for part in parts:
            part.kill()
        judge(server, args, end, p99)
        check(not newcomer["failed"], "newcomers were not served: %s", newcomer["failed"])
        check(grown <= most, "more memory than allowed")
        promised = int(server.hear(r"\[MEMORY\] (\d+) MiB at most").group(1)) << 20
        print("         it has promised %d KiB" % (promised >> 10))
        check(grown <= promised, "more memory than it promised")
        print("ok")
    finally:
        for part in parts:
            part.kill()
        server.kill()


def tally(counts):
    return " ".join("%s=%d" % pair for pair in sorted(counts.items()))


def judge(server, args, end, p99):
    harness.until("everyone is gone", lambda: server.fds() <= server.base["fds"], 60)
    check(server.stop() == 0, "exit code %s", server.code)
    totals = server.totals()
    print("closed   %s" % " ".join("%s=%d" % pair for pair in totals.items()), flush=True)
    closed = sum(n for name, n in totals.items() if name not in harness.OTHER_FIELDS)
    check(totals["accepted"] == closed and totals["open"] == 0, "the counters do not balance")
    check(not server.heard("panicked"), "a panic: %s", server.heard("panicked"))
    check(not any(end["errors"].values()), "honest clients had errors: %s", end["errors"])
    check(end["connected"] == end["open"] == args.honest, "%d of %d honest are connected, %d at "
          "the end", end["connected"], args.honest, end["open"])
    check(end["received"] and not end["unsent"], "%d messages were never sent", end["unsent"])
    check(p99 < P99_MS, "honest p99 %.1f ms", p99)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lorises", type=int, default=5000)
    parser.add_argument("--mutes", type=int, default=5000)
    parser.add_argument("--garbage", type=int, default=5000)
    parser.add_argument("--honest", type=int, default=4000)
    parser.add_argument("--rate", type=int, default=4000, help="honest messages a second, in all")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--memory", default="256m", help="the server's --memory")
    parser.add_argument("--binary")
    parser.add_argument("--crowd", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    harness.raise_own_limit()
    if args.crowd:
        kind, count, port = args.crowd
        if kind == "newcomers":
            return newcomers(int(port))
        return Crowd(kind, int(count), int(port)).run()
    try:
        run(args, find_binary(args.binary))
    except Failed as why:
        sys.exit("FAIL: %s" % why)


if __name__ == "__main__":
    main()
