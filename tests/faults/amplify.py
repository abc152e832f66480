"""How much memory a byte of an attacker costs.

    python3 tests/faults/amplify.py               # all attacks, about a minute
    python3 tests/faults/amplify.py half deep     # those whose names begin so
    python3 tests/faults/amplify.py --list

Each attack has a server of its own and many connections, which send something that the server
has to remember, and then nothing. Its memory (resident, as the kernel counts it) may have
grown by 4 times the bytes it was sent, and 1 KiB for each connection.

Where peers do not read their replies, output waits as well, and that has a limit of its own
(--output-high and a read's worth of replies), which is added for those attacks alone: `mute`.

Standard library only. Exits with 1 if one attack takes more.
"""

import argparse
import sys
import time

sys.dont_write_bytecode = True

import harness
from harness import Failed, Server, check, close_all, fill, pause, u32be
from run import find_binary
from sizing import post

FACTOR, EACH = 4, 1 << 10
# What the process takes once, whatever is sent: the buffers of the loop itself, one for
# reading and one for the replies of a turn, and what malloc keeps.
ONCE = 1 << 20
# What may wait for one peer that does not read: 64 KiB, and a turn's replies above; a buffer
# has up to twice the room.
OUTPUT = 2 * (64 << 10) + (64 << 10)
CHUNKED = post(b"Transfer-Encoding: chunked\r\n")
HEAD = b"GET / HTTP/1.1\r\nHost: x\r\n"

# Name: SPEC and flags, connections, what each sends, whether it reads.
ATTACKS = {
    "half, 1 MiB announced and nothing sent": ("u32be", 5000, u32be(b"x" * (1 << 20))[:4]),
    "half, a byte of 1 MiB": ("u32be", 5000, u32be(b"x" * (1 << 20))[:5]),
    "half, 65 bytes, one above a buffer": ("u32be", 5000, u32be(b"x" * (1 << 20))[:65]),
    "half, 1,025 bytes, one above a buffer": ("u32be", 5000, u32be(b"x" * (1 << 20))[:1025]),
    "half, 16,385 bytes": ("u32be", 1000, u32be(b"x" * (1 << 20))[:16385]),
    "half, 131,073 bytes": ("u32be", 200, u32be(b"x" * (1 << 20))[:131073]),
    "half, a byte of a line": ("lines", 5000, b"x"),
    "half, 33,000 bytes of a line": ("lines", 1000, b"x" * 33000),
    "half, behind a whole one": ("u32be", 5000, u32be(b"x" * 4000) + u32be(b"yy")[:5]),
    "half, 64-bit lengths": ("u64be", 5000, (1 << 19).to_bytes(8, "big") + b"x"),
    "tiny, 10,000 empty messages": ("u32be", 500, u32be(b"") * 10000),
    "tiny, 40,000 empty lines": ("lines", 500, b"\n" * 40000),
    "tiny, 20,000 netstrings": ("netstring", 200, b"0:," * 20000),
    "tiny, varint": ("varint", 500, b"\0" * 40000),
    "skipped, 200 KiB of a line that is too long": ("lines", 1000, b"x" * (200 << 10)),
    "chunked, 3,000 chunks of a byte": ("http", 1000, CHUNKED + b"1\r\nx\r\n" * 3000),
    "chunked, a chunk announced": ("http", 5000, CHUNKED + b"ffff\r\nx"),
    "http, a head without end": ("http", 5000, HEAD + b"a: b\r\n" * 90),
    "http, 1 MiB of body announced": ("http", 5000, post(b"Content-Length: 1000000\r\n") + b"x"),
    "http, whole requests": ("http", 500, (HEAD + b"\r\n") * 300),
    "deep, 127 brackets": ("json", 5000, b"[" * 127),
    "deep, 127 objects": ("json", 5000, b'{"a":' * 127),
    "deep, strings of escapes": ("json", 1000, b'["' + b"\\u0041" * 3000),
    "deep, 100 elements": ("xml", 5000, b"<a>" * 100),
    "deep, 250 attributes": ("xml", 2000, b"<a" + b" b='c'" * 250),
    "resp, 100,000 elements announced": ("resp", 5000, b"*100000\r\n$3\r\nfoo\r\n$500000\r\nx"),
    "slip, escapes without end": ("slip", 1000, b"\xdb\xdc" * 8000),
    "cobs, without end": ("cobs", 1000, b"\x01" * 16000),
    "mute, 2,000 lines and no reply read": ("lines", 200, b"x\n" * 2000),
    "mute, 600 KiB of lines and no reply read": ("lines", 200, (b"x" * 99 + b"\n") * 6000),
    "mute, tiny ones answered at length": ("lines", 200, b"\n" * 100000, "--service", "receipt"),
}


def attack(binary, name):
    """Its line, and whether it kept to the limit."""
    spec, count, data, *flags = ATTACKS[name]
    mute = name.startswith("mute")
    server = Server(binary, "-f", spec, *flags)
    try:
        server.ask(data[:0])
        before, most, sent = server.rss(), 0, 0
        clients = []
        for _ in range(count):
            client = server.connect(rcvbuf=4096 if mute else None)
            clients.append(client)
            sent += fill(client, data, 0.05) if mute else send_all(client, data)
            most = max(most, server.rss())
        quiet(server)
        most = max(most, server.rss())
        grown, held = most - before, server.rss() - before
        allowed = FACTOR * sent + EACH * count + ONCE + (OUTPUT * count if mute else 0)
        close_all(clients)
        server.stop()
        closed = {key: n for key, n in server.totals().items() if key not in harness.OTHER_FIELDS}
    finally:
        server.kill()
    each = max(0, grown - ONCE)
    text = "%d sent %.1f MiB: at most %+.1f MiB, then %+.1f; allowed %.1f (%.2f bytes a byte)%s" % (
        count, sent / 2 ** 20, grown / 2 ** 20, held / 2 ** 20, allowed / 2 ** 20,
        max(0, each - EACH * count) / sent, "".join(" %s=%d" % pair for pair in closed.items()))
    return text, grown <= allowed


def send_all(client, data):
    """Reads what comes meanwhile, as who only sends is stopped by its own replies."""
    client.setblocking(False)
    sent = 0
    while sent < len(data):
        try:
            sent += client.send(data[sent:])
        except BlockingIOError:
            pause(0.0005)
        drain(client)
    drain(client)
    return sent


def drain(client):
    try:
        while client.recv(1 << 16):
            pass
    except BlockingIOError:
        pass


def quiet(server):
    """Until it has served what was sent."""
    end = time.monotonic() + harness.PATIENCE
    while time.monotonic() < end:
        cpu = server.cpu()
        pause(0.1)
        if server.cpu() - cpu < 0.002:
            return


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("attacks", nargs="*")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--binary")
    args = parser.parse_args()
    names = [name for name in ATTACKS
             if not args.attacks or any(name.startswith(word) for word in args.attacks)]
    if args.list:
        print("\n".join(names))
        return
    harness.raise_own_limit()
    binary, failed = find_binary(args.binary), 0
    for name in names:
        try:
            text, kept = attack(binary, name)
        except (Failed, OSError) as why:
            text, kept = "%s: %s" % (type(why).__name__, why), False
        failed += not kept
        print("%-4s %s: %s" % ("ok" if kept else "FAIL", name, text), flush=True)
    print("%d attacks, %d failed" % (len(names), failed))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
