"""The control client: how others fare while a fault happens.

Run by harness.py, in a process of its own, as what provokes the fault needs the interpreter:

    python3 control.py HOST PORT REQUEST_HEX REPLY_HEX     # no REPLY_HEX: as long as the first
    python3 control.py HOST PORT REQUEST_HEX REPLY_HEX anew

With `anew` it calls for each question, and waits for the end behind the reply. Without a
REQUEST_HEX it then only asks for its end, and whatever else it hears is for others: that can
be asked of any service.

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
# Each of its calls leaves a port behind for a minute.
PAUSE_ANEW = 0.01
# Longer than the longest that a server is stopped.
PATIENCE = 90


def echo_forever(listener):
    """The yardstick: sends back what it reads, until whoever asks is gone."""
    asker = os.getppid()
    while os.getppid() == asker:
        if not select.select([listener], [], [], 1)[0]:
            continue
        client, _ = listener.accept()
        with client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while data := client.recv(65536):
                client.sendall(data)


def start_yardstick():
    """Its address."""
    listener = socket.create_server(("127.0.0.1", 0))
    if os.fork() == 0:
        try:
            echo_forever(listener)
        finally:
            os._exit(0)
    return listener.getsockname()[:2]


def connect(host, port):
    client = socket.create_connection((host, port), timeout=PATIENCE)
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


def ask_anew(address, request, reply):
    """The same of a call, from connecting to the end."""
    begun = time.perf_counter()
    with connect(*address) as client:
        client.sendall(request)
        client.shutdown(socket.SHUT_WR)
        got = b""
        while data := client.recv(65536):
            got += data
    if request and got != reply:
        raise OSError("the control client got %r" % got[:100])
    return time.perf_counter() - begun


def at(times, share):
    times = sorted(times)
    return times[min(len(times) - 1, int(len(times) * share))] * 1000 if times else 0.0


def questions(server, yardstick, request, reply):
    """Two functions that ask, over one connection each."""
    theirs, plain = connect(*server), connect(*yardstick)
    exact = reply != b""
    if not exact:
        theirs.sendall(request)
        reply = theirs.recv(65536)
    return lambda: ask(theirs, request, reply, exact), lambda: ask(plain, b"x", b"x")


def main():
    host, port, request, reply, *how = sys.argv[1:]
    request, reply, server = bytes.fromhex(request), bytes.fromhex(reply), (host, int(port))
    yardstick = start_yardstick()
    if how == ["anew"]:
        pause = PAUSE_ANEW
        ask_server = lambda: ask_anew(server, request, reply)
        ask_plain = lambda: ask_anew(yardstick, b"x", b"x")
    else:
        pause = PAUSE
        ask_server, ask_plain = questions(server, yardstick, request, reply)
    ask_server()
    print("ready", flush=True)
    theirs, plain, error = [], [], None
    try:
        while True:
            # Once at least, or nothing would be known.
            theirs.append(ask_server())
            plain.append(ask_plain())
            if select.select([sys.stdin], [], [], pause)[0]:
                break
    except OSError as failed:
        error = str(failed)
    print(json.dumps({
        "asked": len(theirs), "p50": at(theirs, 0.5), "p99": at(theirs, 0.99),
        "max": at(theirs, 1), "plain_p99": at(plain, 0.99), "error": error,
    }), flush=True)


if __name__ == "__main__":
    main()
