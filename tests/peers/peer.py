"""What the clients have in common: an address from the command line, and words when
something is not as it should be."""

import socket
import sys


def connect():
    """A connection to the server named by the first argument, host:port."""
    host, port = sys.argv[1].rsplit(":", 1)
    return socket.create_connection((host, int(port)), timeout=10)


def expect(what, got, wanted):
    if got != wanted:
        sys.exit(f"{what}: got {got!r}, wanted {wanted!r}")
    print(f"{what}: {got!r}")


def receive_all_bytes(sock, count):
    """Document 001: receives exactly so many bytes."""
    chunks = []
    received = 0
    while received < count:
        chunk = sock.recv(count - received)
        if not chunk:
            raise RuntimeError("socket connection broken")
        chunks.append(chunk)
        received += len(chunk)
    return b"".join(chunks)
