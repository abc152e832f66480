#!/usr/bin/env python3
"""oneloop beside its peers: the one command of docs/performance.md.

    python3 benches/versus.py                      # 10 rounds, about 20 minutes
    python3 benches/versus.py --rounds 3 --only depth

Builds oneloop, the peers in benches/peers and the client, and runs each scenario in rounds
that alternate, A B B A and then B A A B, server and client each on a processor of its own.
What is printed are ratios to the peer that is named first, which ran in the same round; it is
measured twice, and how much it differs from itself (A/A) is what a difference has to exceed.
Writes target/versus/: table.txt, versus.json with every single figure, versus.html to look at.

Needs cargo, a C compiler, strace and ss; redis-server and nginx where they are installed.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "peers"))
import exact  # noqa: E402
import page  # noqa: E402
import servers as peers  # noqa: E402
import table  # noqa: E402

RAW, OURS = ("raw epoll", "raw"), ("oneloop", "oneloop")
HAND = ("tokio, by hand", "tokio", "hand")
CODEC, FORWARD = ("tokio, LinesCodec", "tokio", "lines"), ("tokio, LinesCodec, forward", "tokio", "lines-forward")
LENGTH = ("tokio, LengthDelimited", "tokio", "length")
MIO = ("mio", "mio")
ALL = [HAND, FORWARD, CODEC, MIO]
MANY = ["--max-connections", "19500"]
PING, GET = "PING\\r\\n", "GET / HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n"


@dataclass
class Scenario:
    """`peers[0]` is what ratios refer to; (label, name of the server, its arguments...)."""
    name: str
    title: str
    peers: list
    settings: dict
    mode: str = "closed"
    unit: str = "messages"
    floor: float = None
    aim: float = None
    # Settings of the client that one peer needs to differ in.
    differing: dict = field(default_factory=dict)


def closed(name, title, peers, floor, aim, **settings):
    return Scenario(name, title, peers, settings, floor=floor, aim=aim)


def many(connections, *others):
    return [RAW, (*OURS, *MANY), *others] if connections >= 10000 else [RAW, OURS, *others]


def tail(beside, title):
    settings = {"conns": 1000, "rate": 20000, "beside": beside}
    return Scenario("tail-" + beside, "1,000 at 20,000/s " + title, [RAW, OURS, HAND], settings, mode="rate")


SCENARIOS = [
    closed("c1", "1 connection, 64 B lines", [RAW, OURS, HAND, MIO], 0.97, 1.0, conns=1),
    Scenario("c50", "50 connections, 64 B lines",
             [RAW, OURS, *ALL, ("message-io, FramedTcp", "message_io"), ("Python asyncio", "asyncio")],
             {"conns": 50}, floor=0.97, aim=1.0, differing={"message-io, FramedTcp": {"framing": "varint"}}),
    closed("c1000", "1,000 connections, 64 B lines", many(1000, HAND, MIO), 0.97, 1.0, conns=1000),
    closed("c10000", "10,000 connections, 64 B lines", many(10000, HAND), 0.97, 1.0, conns=10000),
    closed("c19000", "19,000 connections, 64 B lines", many(19000), None, None, conns=19000),
    closed("depth16", "50 connections, depth 16, 16 B lines", [RAW, OURS, *ALL], 0.95, 1.0, conns=50, depth=16, size=16),
    closed("depth64", "50 connections, depth 64, 16 B lines", [RAW, OURS, *ALL], 0.95, 1.0, conns=50, depth=64, size=16),
    closed("depth2048", "50 connections, depth 2048, 16 B lines", [RAW, OURS, HAND, FORWARD], 0.95, 1.0,
           conns=50, depth=2048, size=16),
    closed("u32be-16", "u32be, depth 16, 64 B", [LENGTH, (*OURS, "-f", "u32be"), (*RAW, "u32be")], 1.05, 1.12,
           conns=50, depth=16, size=64, framing="u32be"),
    closed("u32be-64", "u32be, depth 64, 16 B", [LENGTH, (*OURS, "-f", "u32be"), (*RAW, "u32be")], 1.35, 1.5,
           conns=50, depth=64, size=16, framing="u32be"),
    # Unlike the others, oneloop bounds what the kernel keeps for one peer: to 64 KiB, as it comes.
    closed("bulk", "20 connections, depth 8, 60 kB lines",
           [RAW, OURS, ("raw, 64 KiB to send", "raw", "lines", "65536"),
            ("raw, 192 KiB to send", "raw", "lines", "196608"),
            ("oneloop, 192 KiB to send", "oneloop", "--send-buffer", "192k"), HAND, FORWARD], 0.85, 0.95,
           conns=20, depth=8, size=60000),
    closed("redis-16", "Redis PING, depth 16", [("Redis", "redis"), OURS, RAW], 1.9, 2.2, conns=50, depth=16, text=PING),
    closed("redis-64", "Redis PING, depth 64", [("Redis", "redis"), OURS, RAW], 3.5, 4.1, conns=50, depth=64, text=PING),
    closed("http-1", "nginx return 200", [("nginx", "nginx"), (*OURS, "-f", "http")], None, None, conns=50, text=GET),
    closed("http-16", "nginx return 200, depth 16", [("nginx", "nginx"), (*OURS, "-f", "http")], None, None,
           conns=50, depth=16, text=GET),
    Scenario("churn", "connect, one echo, close", [RAW, OURS, HAND, MIO], {"conns": 50}, mode="churn", unit="connections",
             floor=0.95, aim=1.0),
    Scenario("broadcast", "broadcast to 10,000",
             [(*RAW, "broadcast"), (*OURS, "--service", "broadcast", *MANY)], {"conns": 10000}, mode="broadcast",
             unit="deliveries", floor=0.95, aim=0.99),
    tail("none", "alone"),
    tail("bulk", "beside a bulk sender"),
    tail("drip", "beside 1,000 drippers"),
]
EXACT = ["calls-1", "calls-16", "idle", "queued", "start", "stalled", "size"]


def cell(servers, scenario, peer, seconds):
    """One peer for `seconds`."""
    label, name, *args = peer
    settings = dict(scenario.settings, **scenario.differing.get(label, {}))
    # Of 20,000 messages, 20 are beyond p99.9; fewer would be a matter of luck.
    settings["seconds"] = max(seconds, 1) if scenario.mode == "rate" and seconds >= 0.5 else seconds
    with peers.running(servers, name, *args) as (process, port):
        command = peers.load_command(scenario.mode, port, pid=process.pid, **settings)
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, **peers.pinned(peers.LOAD_CPU))
    if done.returncode:
        raise RuntimeError(f"{scenario.name}, {label}: {done.stderr.strip()}")
    return json.loads(done.stdout)


def order(scenario, number):
    """A B others B A in one round, B A others A B in the next."""
    a, b, *others = scenario.peers
    first, second = (a, b) if number % 2 == 0 else (b, a)
    return [first, second, *(others if number % 2 == 0 else reversed(others)), second, first]


def run_round(servers, scenario, number, seconds, skipped, errors):
    cells = {}
    for peer in order(scenario, number):
        label = peer[0]
        if label in skipped:
            continue
        try:
            cells.setdefault(label, []).append(cell(servers, scenario, peer, seconds))
        except peers.Missing as error:
            skipped[label] = str(error)
            print(f"skipped: {label}: {error}", flush=True)
        except (RuntimeError, subprocess.SubprocessError) as error:
            errors.append(str(error))
            print(f"error: {error}", flush=True)
    return cells


def main():
    parser = argparse.ArgumentParser(description="oneloop beside its peers", allow_abbrev=False)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=0.5, help="a measurement takes (default: %(default)s)")
    parser.add_argument("--only", action="append", metavar="SCENARIO", help="those that begin so; repeatable")
    parser.add_argument("--no-build", action="store_true", help="what was built before")
    parser.add_argument("--oneloop", metavar="PROGRAM", help="this one, instead of building it")
    parser.add_argument("--list", action="store_true", help="show the scenarios")
    options = parser.parse_args()

    def wanted(name):
        return not options.only or any(name.startswith(only) for only in options.only)

    scenarios = [scenario for scenario in SCENARIOS if wanted(scenario.name)]
    if options.list or not scenarios and not any(map(wanted, EXACT)):
        print("\n".join([f"{s.name:12}{s.title}" for s in SCENARIOS] + EXACT))
        return 0 if options.list else 2
    if len(peers.CPUS) < 2:
        print("warning: one processor for server and client: the ratios say little", file=sys.stderr)
    if not options.no_build:
        peers.build(options.oneloop)
    servers = peers.Servers(options.oneloop)
    began, skipped, errors, results = time.time(), {}, [], {s.name: [] for s in scenarios}
    try:
        host = peers.versions(servers)
        for number in range(options.rounds):
            for scenario in scenarios:
                print(f"round {number + 1} of {options.rounds}, {scenario.name}", file=sys.stderr, flush=True)
                results[scenario.name].append(run_round(servers, scenario, number, options.seconds, skipped, errors))
        counted = exact.measure(servers, wanted, options.seconds, lambda what: print(what, file=sys.stderr, flush=True))
    finally:
        servers.close()
    errors += [f"{name}, {label}: {one['error']}" for name, all_of in counted.items() if name != "size"
               for label, one in all_of.items() if "error" in one]
    run = {"v": 1, "host": host, "rounds": options.rounds, "seconds": options.seconds, "took_s": time.time() - began,
           "load": os.getloadavg(), "skipped": skipped, "errors": errors,
           "scenarios": [dict(table.summary(scenario, results[scenario.name]), rounds=results[scenario.name])
                         for scenario in scenarios],
           "tails": table.tails(results), "exact": counted}
    text = table.text(run)
    print(text)
    for name, content in [("table.txt", text), ("versus.json", json.dumps(run, indent=1)), ("versus.html", page.html(run))]:
        with open(os.path.join(peers.OUT, name), "w") as file:
            file.write(content + "\n")
    print(f"also in {peers.OUT}: table.txt, versus.json, versus.html")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
