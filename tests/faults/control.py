"""The control client: how others fare while a fault happens.

Run by harness.py, in a process of its own, as what provokes the fault needs the interpreter:

    python3 control.py HOST PORT REQUEST_HEX REPLY_HEX     # no REPLY_HEX: as long as the first

It asks the server every few milliseconds, and a plain echo of its own in turn. What that one
takes is what the machine takes, and is told apart from what the server takes. It prints
`ready` after the first reply, and when its stdin closes, one line of JSON.
"""

import json
import os
import select
import socket
import sys
import time

PAUSE = 0.002


def echo_forever(listener):
    """The yardstick: sends back what it reads."""
    client, _ = listener.accept()
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while True:
        data = client.recv(65536)
        if not data:
            return
        client.sendall(data)


def start_yardstick():
    listener = socket.create_server(("127.0.0.1", 0))
    if os.fork() == 0:
        try:
            echo_forever(listener)
        finally:
            os._exit(0)
    return connect(*listener.getsockname()[:2])


def connect(host, port):
    client = socket.create_connection((host, port), timeout=20)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


def ask(client, request, reply, exact=True):
    """Seconds that the reply took."""
    begun = time.perf_counter()
    client.sendall(request)
    got = b""
    while len(got) < len(reply):
        data = client.recv(65536)
        if not data:
            raise OSError("the control client was closed")
        got += data
    if exact and got != reply or len(got) != len(reply):
        raise OSError("the control client got %r" % got[:100])
    return time.perf_counter() - begun


def at(times, share):
    times = sorted(times)
    return times[min(len(times) - 1, int(len(times) * share))] * 1000 if times else 0.0


def main():
    host, port, request, reply = sys.argv[1:]
    request, reply = bytes.fromhex(request), bytes.fromhex(reply)
    server, yardstick = connect(host, int(port)), start_yardstick()
    exact = reply != b""
    if not exact:
        server.sendall(request)
        reply = server.recv(65536)
    ask(server, request, reply, exact)
    print("ready", flush=True)
    theirs, plain, error = [], [], None
    try:
        while not select.select([sys.stdin], [], [], PAUSE)[0]:
            theirs.append(ask(server, request, reply, exact))
            plain.append(ask(yardstick, b"x", b"x"))
    except OSError as failed:
        error = str(failed)
    server.close()
    print(json.dumps({
        "asked": len(theirs), "p50": at(theirs, 0.5), "p99": at(theirs, 0.99),
        "max": at(theirs, 1), "plain_p99": at(plain, 0.99), "error": error,
    }), flush=True)


if __name__ == "__main__":
    main()
