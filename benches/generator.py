#!/usr/bin/env python3
"""How fast is `oneloop bench` beside a generator as lean as one can be written?

    cargo build --release && python3 benches/generator.py [ROUNDS]

Both drive the same server in turns, A B B A, server and generator each on a processor of
its own. Printed are the messages a second of each round, the ratio of the two in it, and
the lean one against itself: a ratio inside that spread is a tie. Needs a C compiler.
"""
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ONELOOP = os.path.join(os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target")), "release", "oneloop")
SECONDS = 2
SHAPES = [(1, 50), (16, 50)]


def pinned(cpu, command):
    return ["taskset", "-c", str(cpu), *command]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def lean(generator, port, depth, connections):
    command = [generator, "127.0.0.1", str(port), str(connections), str(depth), str(SECONDS)]
    return float(subprocess.run(pinned(1, command), check=True, capture_output=True).stdout)


def ours(port, depth, connections):
    command = [ONELOOP, "bench", f"127.0.0.1:{port}", "-c", str(connections), "-P", str(depth),
               "-d", f"{SECONDS}s", "-s", "63", "--json"]
    return json.loads(subprocess.run(pinned(1, command), check=True, capture_output=True).stdout)["received_per_s"]


def spread(ratios):
    return f"median {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    folder = tempfile.mkdtemp()
    generator = os.path.join(folder, "epoll_load")
    source = os.path.join(ROOT, "benches", "peers", "epoll_load.c")
    subprocess.run(["cc", "-O2", "-o", generator, source], check=True)
    port = free_port()
    server = subprocess.Popen(pinned(0, [ONELOOP, "serve", "-q", "-l", f"127.0.0.1:{port}"]))
    try:
        time.sleep(0.5)
        for depth, connections in SHAPES:
            against, itself = [], []
            for number in range(rounds):
                a = lean(generator, port, depth, connections)
                b = ours(port, depth, connections)
                c = ours(port, depth, connections)
                d = lean(generator, port, depth, connections)
                against.append((b + c) / (a + d))
                itself.append(a / d)
                print(f"depth {depth:2} round {number + 1:2}: lean {a:9.0f} {d:9.0f}  oneloop {b:9.0f} {c:9.0f}"
                      f"  ratio {against[-1]:.3f}", flush=True)
            print(f"depth {depth}: oneloop bench to the lean generator {spread(against)}; "
                  f"the lean one to itself {spread(itself)}", flush=True)
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
