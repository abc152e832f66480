"""Into EMFILE and out of it, many times.

    python3 tests/faults/emfile.py                # 1,000 trips, about two minutes
    python3 tests/faults/emfile.py --trips 50

A server whose limit is 64 descriptors, and more clients than that. A trip is: they call until
one was hung up on, which is what the server does when no descriptor is left; then those who
are served leave. By turns they close, reset, or leave together with all who wait. Behind each
trip a late client calls.

Asserted: whoever still waits is served or hung up on within a second of that, and nobody is
stranded; the late client is served; while it is full there are fewer than 100 accept calls a
second, as strace counts them; a control client is answered with p99 < 50 ms all the time; the
counters balance, descriptors and memory are back, and it is idle.

Standard library only. Exits with 1 if one of these fails.
"""

import argparse
import collections
import resource
import select
import sys
import time

sys.dont_write_bytecode = True

import harness
from accepting import accept_calls, hellos, limit
from harness import Failed, Run, check, close_all, pause, rst
from run import find_binary

DESCRIPTORS = 64
# More than there are places, beside those who find one.
WAIT = 8
# A place is free, or a caller has been hung up on, within this time, in seconds.
SOON = 1.0


class Trip:
    """The clients of one trip, and what became of each."""

    def __init__(self, server, count):
        self.clients = server.crowd(count)
        hellos(self.clients)
        self.served, self.hung_up = [], []
        self.poll = select.poll()
        self.by_fd = {client.fileno(): client for client in self.clients}
        for fd in self.by_fd:
            self.poll.register(fd, select.POLLIN)

    def look(self, patience):
        """Hears what there is; False if that is nothing for so long."""
        ready = self.poll.poll(patience * 1000)
        for fd, _ in ready:
            self.poll.unregister(fd)
            client = self.by_fd.pop(fd)
            try:
                got = client.recv(16)
            except ConnectionError:
                got = b""
            check(got in (b"hello\n", b""), "another reply: %r", got)
            (self.served if got else self.hung_up).append(client)
        return bool(ready)

    def until_full(self, places):
        """The server may hang up on one before it has served any, so both are waited for."""
        end = time.monotonic() + harness.PATIENCE
        while len(self.served) < places or not self.hung_up:
            check(time.monotonic() < end, "%d served, %d hung up on: not full", len(self.served),
                  len(self.hung_up))
            self.look(0.1)

    def until_nobody_waits(self):
        """Returns how long that took, and who is stranded: by looks that hear nothing, since
        whoever measures may be stopped for a while, too."""
        begun, looks = time.monotonic(), 20
        while self.by_fd and looks:
            looks -= not self.look(SOON / 20)
        return time.monotonic() - begun, list(self.by_fd.values())


def travel(server, trips, tally):
    # One of them is the control client's.
    places, longest = DESCRIPTORS - server.base["fds"] - 1, 0.0
    for number in range(trips):
        trip = Trip(server, places + WAIT)
        trip.until_full(places)
        kind = ("close", "reset", "all leave")[number % 3]
        for client in trip.served if kind != "all leave" else trip.clients:
            rst(client) if kind == "reset" else client.close()
        tally["served at once"] += len(trip.served)
        if kind != "all leave":
            before = len(trip.served)
            took, stranded = trip.until_nobody_waits()
            longest = max(longest, took)
            tally["served later"] += len(trip.served) - before
            tally["stranded"] += len(stranded)
        tally["hung up on"] += len(trip.hung_up)
        close_all(trip.clients)
        begun = time.monotonic()
        check(server.ask(b"late\n") == b"late\n", "trip %d: a late client is not served", number)
        longest = max(longest, time.monotonic() - begun)
    return longest


def calls_while_full(server, seconds):
    trip = Trip(server, DESCRIPTORS)
    trip.until_full(1)
    calls = accept_calls(server, seconds)
    close_all(trip.clients)
    return None if calls is None else calls / seconds


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trips", type=int, default=1000)
    parser.add_argument("--binary")
    args = parser.parse_args()
    harness.raise_own_limit()
    run, tally = Run(find_binary(args.binary), False, None), collections.Counter()
    try:
        server = run.serve()
        # There are more connections than ports.
        run.closes(server, again=1)
        limit(server, resource.RLIMIT_NOFILE, DESCRIPTORS)
        begun = time.monotonic()
        longest = travel(server, args.trips, tally)
        took = time.monotonic() - begun
        rate = calls_while_full(server, 5.0)
        pause(0.2)
        print("%d trips in %.0f s: %s; nobody waited for longer than %.2f s; %s accept calls a "
              "second while full" % (
                  args.trips, took, ", ".join("%d %s" % (tally[name], name) for name in (
                      "served at once", "served later", "hung up on", "stranded")), longest,
                  "?" if rate is None else "%.1f" % rate))
        print(run.judge())
        check(tally["stranded"] == 0, "%d were stranded", tally["stranded"])
        check(rate is None or rate < 100, "%s accept calls a second", rate)
        print("ok")
    except Failed as why:
        sys.exit("FAIL: %s" % why)
    finally:
        run.clean_up()


if __name__ == "__main__":
    main()
