"""What ../versus.py counts and does not time: calls, bytes, wake-ups. One run each."""
import contextlib
import os
import re
import subprocess
import tempfile
import time

from servers import LOAD_CPU, SMALL, Missing, cpu_ticks, installed, load_command, pinned, running, status

HELD = [100, 1000, 10000, 19000]
# Bytes of a message that is kept for those who do not read.
SAID = 256
# Starts of a server, for its memory then.
STARTS = 11
# The clock of each connection runs: it would be closed after ten minutes.
CLOCKS = ["--max-connections", "19500", "--idle-timeout", "10m"]


def calls(servers, server, settings, messages):
    """System calls a message: of a long run less those of a short one, so that starting and
    accepting do not count."""
    def traced(count):
        with tempfile.NamedTemporaryFile("r") as out:
            before = [installed("strace"), "-c", "-f", "-o", out.name]
            with running(servers, *server, before=before) as (process, port):
                command = load_command("closed", port, count=count, **settings)
                done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120,
                                      **pinned(LOAD_CPU))
                # Connections end, too, in both runs alike.
                time.sleep(0.1)
                # What is traced, not strace, which then writes its table.
                children = f"/proc/{process.pid}/task/{process.pid}/children"
                for child in open(children).read().split():
                    os.kill(int(child), 15)
                process.wait(20)
            rows = re.findall(r"^ +[\d.]+ +[\d.]+ +\d+ +(\d+) +(?:\d+ +)?(\w+)$", out.read(), re.M)
        sent = int(re.search(r'"all": (\d+)', done.stdout).group(1))
        return {name: int(number) for number, name in rows if name != "total"}, sent

    short, few = traced(messages)
    long, many = traced(messages * 3)
    each = {name: (long[name] - short.get(name, 0)) / (many - few) for name in long}
    return {"all": sum(each.values()), "each": {name: n for name, n in each.items() if n > 0.005}}


@contextlib.contextmanager
def asked(*command):
    """A client that does what a number on its stdin says, and then prints one."""
    load = subprocess.Popen(load_command(*command[:2], **command[2]), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                            text=True, **pinned(LOAD_CPU))

    def ask(number):
        load.stdin.write(f"{number}\n")
        load.stdin.flush()
        if load.stdout.readline().strip() != str(number):
            raise RuntimeError(f"the client failed before {number}")

    try:
        yield load, ask
    finally:
        load.kill()
        load.wait()


def idle(servers, server, wait_s):
    """Anonymous bytes a connection that has had one reply and is silent since; and how often
    the server wakes while they all are."""
    with running(servers, *server) as (process, port):
        time.sleep(0.2)
        start = status(process.pid)["RssAnon"]
        points = {}
        with asked("hold", port, {}) as (_, ask):
            for count in HELD:
                ask(count)
                points[count] = (status(process.pid)["RssAnon"] - start) / count
            time.sleep(0.5)
            # One that sleeps gives up the processor by itself; so a wake-up is one of these.
            before = status(process.pid)["voluntary_ctxt_switches"]
            time.sleep(wait_s)
            wakes = (status(process.pid)["voluntary_ctxt_switches"] - before) / wait_s
    return {"bytes": points, "wakes_per_s": wakes}


def start(servers, server):
    """Memory of a server that has just started. The middle one of several: where libraries lie is
    random, and so is how many pages the kernel maps round those that are used."""
    def once():
        with running(servers, *server) as (process, _):
            time.sleep(0.3)
            now = status(process.pid)
            with open(f"/proc/{process.pid}/smaps_rollup") as file:
                pss = int(re.search(r"^Pss: +(\d+) kB", file.read(), re.M).group(1)) * 1024
        return {"VmRSS": now["VmRSS"], "RssAnon": now["RssAnon"], "RssFile": now["RssFile"], "Pss": pss}

    return sorted((once() for _ in range(STARTS)), key=lambda one: one["VmRSS"])[STARTS // 2]


def stalled(servers, server):
    """What one peer costs that sends and never reads: with the server, and in the kernel for
    the server's socket, as `ss -m` counts it."""
    with running(servers, *server) as (process, port):
        time.sleep(0.2)
        before = status(process.pid)["RssAnon"]
        with asked("stall", port, {}) as (load, _):
            sent = int(load.stdout.readline())
            user = status(process.pid)["RssAnon"] - before
            table = subprocess.run([installed("ss"), "-tmnH", "state", "established", f"sport = :{port}"],
                                   check=True, capture_output=True, text=True).stdout
    memory = re.search(r"skmem:\(r(\d+),rb\d+,t(\d+),tb\d+,f(\d+),w(\d+)", table)
    if not memory:
        raise RuntimeError(f"ss says {table!r}")
    r, t, f, w = map(int, memory.groups())
    return {"sent": sent, "user": user, "received": r, "to_send": max(t, w), "reserve": f,
            "all": user + r + max(t, w) + f}


def queued(servers, server, deaf):
    """Bytes of memory a message that is kept for `deaf` who do not read, a recipient."""
    def rests(pid):
        """Memory once the server has nothing to do."""
        before = -1
        while (now := cpu_ticks(pid)) != before:
            before = now
            time.sleep(0.3)
        return status(pid)["RssAnon"]

    with running(servers, *server) as (process, port), \
            asked("deaf", port, {"conns": deaf, "size": SAID}) as (load, ask):
        load.stdout.readline()
        # The kernel takes the first ones.
        ask(80)
        few = rests(process.pid)
        ask(200)
        return {"bytes": (rests(process.pid) - few) / 120 / deaf, "deaf": deaf}


def measure(servers, wanted, seconds, say):
    """Everything of this file, as far as `wanted(name)`."""
    result = {}
    # Short runs are smoke tests.
    wait_s, messages = (10, 5000) if seconds >= 0.5 else (1, 1000)
    hand, lines = ("tokio", "hand"), ("tokio", "lines")

    def each(name, servers_of, how):
        if not wanted(name):
            return
        result[name] = {}
        for label, server in servers_of.items():
            say(f"{name}: {label}")
            try:
                result[name][label] = how(server)
            except (Missing, OSError, RuntimeError, subprocess.SubprocessError) as error:
                result[name][label] = {"error": str(error)}

    plain = {"raw epoll": ("raw",), "oneloop": ("oneloop",), "tokio, by hand": hand,
             "tokio, LinesCodec": lines, "mio": ("mio",)}
    each("calls-1", plain, lambda server: calls(servers, server, {"conns": 50, "depth": 1}, messages))
    each("calls-16", plain, lambda server: calls(servers, server, {"conns": 50, "depth": 16}, messages * 4))
    each("idle", {"raw epoll": ("raw",), "oneloop": ("oneloop", *CLOCKS), "tokio, by hand": hand,
                  "tokio, LinesCodec": lines}, lambda server: idle(servers, server, wait_s))
    each("queued", {"oneloop": ("oneloop", "--service", "broadcast", "--send-buffer", "4k", *CLOCKS)},
         lambda server: queued(servers, server, 1000))
    each("start", {**plain, "oneloop as a library": ("small",)}, lambda server: start(servers, server))
    each("stalled", {"raw epoll": ("raw",), "oneloop": ("oneloop",), "tokio, by hand": hand},
         lambda server: stalled(servers, server))
    if wanted("size"):
        result["size"] = {"oneloop": os.path.getsize(SMALL)}
    return result
