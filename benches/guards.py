#!/usr/bin/env python3
"""What must not grow unnoticed, counted: calls, allocations, instructions, bytes.

    python3 benches/guards.py              # about two minutes, and one to build
    python3 benches/guards.py --update     # takes what is counted now as what is allowed
    python3 benches/guards.py --binary PROGRAM --only instructions

Nothing here is timed, so a busy machine counts the same. Each figure of a message is that of
a long run of a fixed traffic less that of a short one: what starting and accepting cost is in
both. A connection speaks only when it has all its replies.

Some are allowed a limit that is written here. For the others it is the figure in guards.json
and 5 % more. Those depend on the compiler, and on what the processor's own memchr and memcpy
are; where these are not the ones of the file, 15 % are allowed, which still finds a second
look at every byte, and the table says so. Exits with 1 if one is beyond.

Standard library, cargo, strace and valgrind. The program is built as it is shipped.
"""
import argparse
import atexit
import contextlib
import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "peers"))
from servers import BUILT, PEERS, ROOT, SMALL, TARGET, Missing, free_port, installed, status  # noqa: E402

FILE = os.path.join(ROOT, "benches", "guards.json")
SAME, OTHER = 1.05, 1.15
# A valgrind on a loaded machine is slow to start.
PATIENCE_S = 60
RECEIPT = b"Msg received\n"

# What a test of the package counts, as (what, the file, the test).
TESTED = [
    ("a slot takes 40 bytes or 48", "src/net/endpoint.rs", "a_slot_takes_40_bytes_or_48_slab_entry_included"),
    ("a message costs no allocation", "tests/memory.rs", "a_message_costs_no_allocation_in_steady_state"),
    ("nor does a broadcast", "tests/memory.rs", "a_broadcast_costs_no_allocation_in_steady_state"),
    ("a byte is looked at once", "tests/self_sizing.rs", "what_dribbles_in_is_looked_at_once"),
    ("an idle connection holds no buffer", "tests/memory.rs", "an_idle_connection_holds_no_buffer"),
]


@dataclass
class Traffic:
    """`rounds` times `depth` messages on each of `conns` connections, and their replies.

    `pieces`: a message is one line that comes in so many, each of them read before the next.
    `held`: one wait reports all of a round.
    """
    framing: str = "lines"
    conns: int = 1
    depth: int = 1
    size: int = 64
    rounds: int = 2000
    pieces: int = 1
    held: bool = False

    def wire(self):
        if self.framing == "http":
            return b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * self.depth
        if self.framing == "u32be":
            return ((self.size - 4).to_bytes(4, "big") + b"x" * (self.size - 4)) * self.depth
        return (b"x" * (self.size - 1) + b"\n") * self.depth

    def messages(self, rounds):
        return rounds * self.conns * self.depth

    def speak(self, port, rounds, process):
        wire = self.wire()
        conns = [caller(port) for _ in range(self.conns)]
        if self.pieces > 1:
            other = caller(port)
            return in_pieces(conns[0], other, wire, self.pieces, rounds, process)
        conns[0].sendall(wire)
        # Of HTTP, longer than what was asked; all are the same.
        reply = len(wire) if self.framing != "http" else length_of_replies(conns[0], self.depth)
        if self.framing != "http":
            take(conns[0], reply)
        for _ in range(rounds):
            with stopped(process) if self.held else contextlib.nullcontext():
                for conn in conns:
                    conn.sendall(wire)
            for conn in conns:
                take(conn, reply)


def caller(port):
    conn = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
    conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return conn


def take(conn, length):
    while length:
        got = len(conn.recv(length))
        if not got:
            raise RuntimeError("the server closed a connection")
        length -= got


def length_of_replies(conn, count):
    """Their bytes, by their heads: each has a Content-Length."""
    got = b""
    while True:
        got += conn.recv(1 << 16)
        at, seen = 0, 0
        while (end := got.find(b"\r\n\r\n", at)) >= 0:
            at = end + 4 + int(re.search(rb"(?i)content-length: *(\d+)", got[at:end]).group(1))
            seen += 1
        if seen == count and at == len(got):
            return at


def in_pieces(conn, other, wire, pieces, rounds, process):
    """When the other one has its reply, the piece that was sent before has been read. The
    replies are short: how often a long one waits for its reader is not the server's doing."""
    size = -(-len(wire) // pieces)
    for _ in range(rounds):
        for at in range(0, len(wire), size):
            with stopped(process):
                conn.sendall(wire[at:at + size])
                other.sendall(b"?\n")
            take(other, len(RECEIPT))
        take(conn, len(RECEIPT))


@contextlib.contextmanager
def stopped(process):
    """The server does nothing meanwhile, so that its next wait reports all that was sent. It
    waited before, and that wait is interrupted: one more each time, which counts."""
    pid, tracer = process

    def until(states):
        # A traced one is shown as stopped at each call, too; but then its tracer is not asleep.
        patience = time.monotonic() + PATIENCE_S
        while state(pid) not in states or tracer and state(tracer) != "S":
            if time.monotonic() > patience:
                raise RuntimeError(f"the server does not come to {states}: {state(pid)}")
            time.sleep(0.0005)

    until("S")
    os.kill(pid, signal.SIGSTOP)
    until("tT")
    yield
    os.kill(pid, signal.SIGCONT)


def state(pid):
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rsplit(")", 1)[1].split()[0]


@contextlib.contextmanager
def serving(command, flags, before=()):
    """A server that listens, as ((process, its tracer), port). Ends it with SIGTERM: tools
    write then."""
    port = free_port()
    process = subprocess.Popen([*before, *command(port), *flags], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
    server, tracer = process.pid, None
    try:
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                if process.poll() is not None or time.monotonic() > until:
                    raise RuntimeError(f"{' '.join(process.args)} does not listen") from None
                time.sleep(0.02)
        if before and "strace" in before[0]:
            # What is traced, and not strace.
            tracer = process.pid
            with open(f"/proc/{tracer}/task/{tracer}/children") as file:
                server = int(file.read())
        yield (server, tracer), port
        os.kill(server, signal.SIGTERM)
        process.wait(PATIENCE_S)
    finally:
        if process.poll() is None:
            for pid in {server, process.pid}:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.wait()


class Counter:
    """Counts what a traffic costs the program."""

    def __init__(self, program):
        self.program = program
        self.folder = tempfile.mkdtemp(prefix="guards-")
        atexit.register(shutil.rmtree, self.folder, ignore_errors=True)
        self.out = os.path.join(self.folder, "out")

    def serve(self, port):
        return [self.program, "serve", "-q", "-l", f"127.0.0.1:{port}"]

    def flags(self, traffic):
        if traffic.pieces > 1:
            return ["-f", f"{traffic.framing},max={traffic.size}", "--service", "receipt"]
        return ["-f", traffic.framing]

    def counted(self, traffic, rounds, before, read):
        with serving(self.serve, self.flags(traffic), before) as (process, port):
            traffic.speak(port, rounds, process)
        with open(self.out) as file:
            return read(file.read())

    def a_message(self, traffic, before, read):
        short, long = traffic.rounds // 4, traffic.rounds
        few, many = (self.counted(traffic, rounds, before, read) for rounds in (short, long))
        return (many - few) / traffic.messages(long - short)

    def calls(self, traffic):
        return self.a_message(traffic, [installed("strace"), "-c", "-f", "-o", self.out], calls_in)

    def instructions(self, traffic):
        tool = [installed("valgrind"), "--tool=callgrind", f"--callgrind-out-file={self.out}"]
        return self.a_message(traffic, tool, lambda text: number(r"^(?:summary|totals): (\d+)", text))

    def allocations(self, traffic):
        tool = [installed("valgrind"), "--leak-check=no", f"--log-file={self.out}"]
        return self.a_message(traffic, tool, lambda text: number(r"total heap usage: ([\d,]+) allocs", text))

    def idle_bytes(self, few, many):
        """Anonymous bytes a connection that has had one reply and is silent since."""
        with serving(self.serve, []) as ((pid, _), port):
            conns, at = [], {}
            for count in (few, many):
                while len(conns) < count:
                    conns.append(caller(port))
                    conns[-1].sendall(b"?\n")
                    take(conns[-1], 2)
                at[count] = status(pid)["RssAnon"]
            for conn in conns:
                conn.close()
        return (at[many] - at[few]) / (many - few)


def anonymous(command):
    """Memory of a server that has just started which is nobody else's, in bytes. The least of a
    few: where a stack begins is random, and so is how many pages it touches."""
    def once():
        with serving(command, []) as ((pid, _), port):
            with caller(port) as conn:
                conn.sendall(b"?\n")
                take(conn, 2)
            return status(pid)["RssAnon"]

    return min(once() for _ in range(10))


def calls_in(table):
    rows = re.findall(r"^ +[\d.]+ +[\d.]+ +\d+ +(\d+) +(?:\d+ +)?(\w+)$", table, re.M)
    return sum(int(count) for count, name in rows if name != "total")


def number(pattern, text):
    found = re.search(pattern, text, re.M)
    if not found:
        raise RuntimeError(f"no {pattern!r} in what the tool wrote: {text[-300:]!r}")
    return int(found.group(1).replace(",", ""))


def crates():
    """What the library stands on, itself included."""
    tree = subprocess.run(["cargo", "tree", "--locked", "--edges", "normal", "--no-default-features", "--prefix", "none",
                           "--format", "{p}"], check=True, capture_output=True, text=True, cwd=ROOT).stdout
    return len({line.split()[0] for line in tree.splitlines() if line})


def guards(program):
    """(name, what is counted, of what, decimals, how, and the limit where it is a fixed one)."""
    counter = Counter(program)
    many, deep = Traffic(conns=50, rounds=100, held=True), Traffic(conns=50, depth=16, rounds=100, held=True)

    def instructions(name, what, per=1, **traffic):
        traffic = Traffic(**traffic)
        return name, f"instructions, {what}", "byte" if per > 1 else "message", 2 if per > 1 else 0, \
            lambda: counter.instructions(traffic) / per, None

    piece, line = 1000, 500_000
    return [
        ("calls-1", "system calls, 50 connections", "message", 3, lambda: counter.calls(many), 2.05),
        ("calls-16", "system calls, 50 connections, depth 16", "message", 3, lambda: counter.calls(deep), 0.14),
        ("calls-alone", "system calls, 1 connection", "message", 3, lambda: counter.calls(Traffic(rounds=4000)), 3.01),
        ("allocations-1", "allocations", "message", 3, lambda: counter.allocations(Traffic()), 0.001),
        ("allocations-16", "allocations, depth 16", "message", 3, lambda: counter.allocations(Traffic(depth=16)), 0.001),
        instructions("instructions-1", "lines, depth 1"),
        instructions("instructions-16", "lines of 16 B, depth 16", depth=16, size=16),
        instructions("instructions-64", "lines of 16 B, depth 64", depth=64, size=16),
        instructions("instructions-u32be", "u32be, depth 16", framing="u32be", depth=16),
        instructions("instructions-http", "http, depth 16", framing="http", depth=16, rounds=800),
        instructions("instructions-long", "a line of 500 kB in pieces of 1 kB", per=line, size=line,
                     pieces=line // piece, rounds=4),
        ("idle-bytes", "anonymous bytes, idle", "connection", 0, lambda: counter.idle_bytes(500, 4000), None),
        ("start-program", "anonymous bytes, just started", "serve", 0, lambda: anonymous(counter.serve), None),
        ("start-small", "anonymous bytes, just started", "smallest echo", 0,
         lambda: anonymous(lambda port: [SMALL, str(port)]), None),
        ("size-program", "bytes of the file", "program", 0, lambda: os.path.getsize(program), None),
        ("size-small", "bytes of the file", "smallest echo", 0, lambda: os.path.getsize(SMALL), None),
        ("crates", "crates, itself included", "library", 0, crates, 7),
    ]


def build():
    subprocess.run(["cargo", "build", "--release", "--locked", "--bin", "oneloop"], check=True, cwd=ROOT)


def build_small():
    subprocess.run(["cargo", "build", "--locked", "--profile", "small", "-p", "small"], check=True, cwd=PEERS,
                   env=dict(os.environ, CARGO_TARGET_DIR=BUILT))


def here():
    """What the figures of the file depend on, beside the code."""
    rustc = subprocess.run(["rustc", "--version"], check=True, capture_output=True, text=True, cwd=ROOT).stdout.split()[1]
    with open("/proc/cpuinfo") as file:
        avx2 = " avx2 " in file.read().replace("\n", " ")
    return {"rustc": rustc, "machine": os.uname().machine + (" with AVX2" if avx2 else "")}


def tested():
    """Whether the tests are there that the table relies on."""
    missing = 0
    for what, path, test in TESTED:
        with open(os.path.join(ROOT, path)) as file:
            there = f"fn {test}(" in file.read()
        print(f"  {what + ', by ' + path:62}{'a test' if there else 'FAILED: no ' + test}")
        missing += not there
    return missing


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument("--update", action="store_true", help="write guards.json")
    parser.add_argument("--binary", metavar="PROGRAM", help="this one, instead of building it")
    parser.add_argument("--only", action="append", metavar="NAME", help="those that begin so; repeatable")
    options = parser.parse_args()
    wanted = [guard for guard in guards(os.path.abspath(options.binary or os.path.join(TARGET, "release", "oneloop")))
              if not options.only or guard[0].startswith(tuple(options.only))]
    if options.update and options.only:
        sys.exit("--update takes all figures, so that they are of one compiler")
    if not wanted:
        sys.exit(f"no such guard; there are: {' '.join(guard[0] for guard in guards('-'))}")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if not options.binary:
        build()
    if any(guard[0].endswith("small") for guard in wanted):
        build_small()
    known = {"figures": {}}
    with contextlib.suppress(FileNotFoundError), open(FILE) as file:
        known = json.load(file)
    place, figures, failed = here(), known["figures"], 0
    same = all(known.get(key) == value for key, value in place.items())
    if not same and not options.update:
        print(f"guards.json is of rustc {known.get('rustc')} on {known.get('machine')}, this is rustc {place['rustc']} on "
              f"{place['machine']}:\nits figures are allowed 15 % more instead of 5 %.")
    print(f"{'what':53}{'of a':15}{'now':>10}{'allowed':>11}", flush=True)
    for name, what, of, decimals, count, limit in wanted:
        try:
            now = count()
        except (Missing, OSError, RuntimeError, subprocess.SubprocessError) as error:
            print(f"{what:53}{of:15}FAILED: {error}", flush=True)
            failed += 1
            continue
        if limit is None and options.update:
            figures[name] = round(now, decimals or None)
        allowed = limit if limit is not None else figures.get(name, 0) * (SAME if same or options.update else OTHER)
        bad = now > allowed
        better = limit is None and now * SAME < figures.get(name, 0)
        word = "FAILED" if bad else "ok, and less than it was: --update" if better else "ok"
        print(f"{what:53}{of:15}{now:10,.{decimals}f}{allowed:11,.{decimals}f}  {word}", flush=True)
        failed += bad
    if not options.only:
        failed += tested()
    if options.update:
        with open(FILE, "w") as file:
            json.dump({**place, "figures": figures}, file, indent=2)
            file.write("\n")
    print(f"{failed} failed" if failed else "all ok")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
