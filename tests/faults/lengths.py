"""F41 to F55: where a message ends, and lies about it."""

import struct
import time

from harness import (SAME_LENGTH, ascii8, case, check, close_all, line, read_all, read_exactly, talk,
                     u32be)


def refused(server, good, bad, what):
    """The reply before it, and then the end, whatever stands behind."""
    with server.connect() as client:
        got = talk(client, good + bad + good)
    check(got == good, "%s: got %r", what, got[:60])


@case("F41", "signs, spaces, hexadecimal, underscores, points in a length")
def f41(t):
    server = t.serve("-f", "ascii:8", control=ascii8(b"control"))
    bad = [b"-0000001", b"+0000005", b" 0000005", b"0x000005", b"1_000000", b"5.000000",
           b"0000000a", b"0000005\n", b"0000005\0"]
    for text in bad:
        refused(server, ascii8(b"good"), text + b"hello", text)
        # At that byte: what is wrong already is not waited on.
        wrong = next(n for n, byte in enumerate(text) if not chr(byte).isdigit())
        with server.connect() as client:
            client.sendall(text[:wrong + 1])
            check(read_all(client) == b"", "%r: not refused at byte %d", text, wrong)
    t.closes(server, bad_frame=2 * len(bad))
    return "%d lengths" % len(bad)


@case("F42", "digits of other alphabets")
def f42(t):
    server = t.serve("-f", "ascii:8", control=ascii8(b"control"))
    bad = ["\u0660\u0660\u0660\u0665", "\uff11\uff12\uff10", "\u00b2\u00b3\u00b9\u2074", "\u0967"]
    for text in bad:
        refused(server, ascii8(b"good"), text.encode(), text)
    t.closes(server, bad_frame=len(bad))


@case("F43", "the longest message, and a byte more")
def f43(t):
    server = t.serve("-f", "ascii:8", control=ascii8(b"control"))
    most = ascii8(b"x" * (1 << 20))
    check(server.ask(most) == most, "the longest did not come back")
    before = server.rss()
    for text in (b"99999999", b"%08d" % ((1 << 20) + 1)):
        refused(server, ascii8(b"good"), text, text)
    check(server.rss() - before < 1 << 20, "memory was taken for it")
    t.closes(server, too_long=2, peer_eof=1)


def binary_specs():
    for letter, spec, size in (("H", "u16", 2), ("I", "u32", 4), ("Q", "u64", 8)):
        for order, end in ((">", "be"), ("<", "le")):
            yield spec + end, order + letter, size


@case("F44", "binary lengths near 2^16, 2^32, 2^63, 2^64")
def f44(t):
    for spec, packed, size in binary_specs():
        def frame(text):
            return struct.pack(packed, len(text)) + text
        server = t.serve("-f", spec + ",max=1000", control=frame(b"control"))
        values = [(1 << 8 * size) - k for k in range(1, 17)] + [1 << (8 * size - 1), 1001]
        for value in values:
            refused(server, frame(b"good"), struct.pack(packed, value), "%s %d" % (spec, value))
        t.closes(server, too_long=len(values))
    return "6 framings, 18 lengths each"


@case("F45", "a length that includes its header and is smaller")
def f45(t):
    for spec, size in (("u16be,adjust=-2", 2), ("u32be,adjust=-4", 4)):
        packed = ">H" if size == 2 else ">I"
        control = struct.pack(packed, size + 7) + b"control"
        server = t.serve("-f", spec, control=control)
        for value in range(size):
            refused(server, control, struct.pack(packed, value), "%s %d" % (spec, value))
        t.closes(server, bad_frame=size)


@case("F46", "1,000,000 empty messages")
def f46(t):
    server = t.serve("-f", "u32be", control=u32be(b"control"))
    flood = u32be(b"") * 1000000
    begun = time.monotonic()
    check(server.ask(flood) == flood, "not all came back")
    return "%.1f s" % (time.monotonic() - begun)


@case("F47", "9,900 announce 1 MiB each, and send nothing of it")
def f47(t):
    server = t.serve("-f", "u32be", control=u32be(b"control"))
    before, header = server.rss(), u32be(b"x" * (1 << 20))[:4]
    clients = server.crowd(9900)
    for client in clients:
        client.sendall(header)
    # Behind them all in the queue.
    with server.connect() as last:
        check(talk(last, u32be(b"hello")) == u32be(b"hello"), "not served")
    each = (server.rss() - before) / 9900
    check(each < 1024, "%d bytes each", each)
    close_all(clients)
    t.closes(server, truncated=9900, peer_eof=1)
    return "%d bytes each" % each


@case("F48", "each message cut at every byte")
def f48(t):
    frames = {
        "lines": b"hello\n", "lines:crlf": b"hello\r\n", "u32be": u32be(b"hello"),
        "ascii:8": ascii8(b"hello"), "netstring": b"5:hello,", "varint": b"\x05hello",
        "stx-etx": b"\x02hello\x03", "slip": b"hel\xdb\xdco\xc0", "cobs": b"\x06hello\0",
        "json": b'{"a":"\\u00e9]"} ', "xml": b"<a b='>'><!-- > --><c/></a>",
    }
    for spec, frame in frames.items():
        server = t.serve("-f", spec, control=frame, reply=SAME_LENGTH)
        whole = server.ask(frame * 2)
        check(whole.count(whole[:len(whole) // 2]) == 2, "%s: %r", spec, whole)
        with server.connect() as other:
            for cut in range(1, 2 * len(frame)):
                got = cut_at(server, other, frame * 2, cut, whole[:len(whole) // 2], frame)
                check(got == whole, "%s cut at %d: %r", spec, cut, got)
        t.judge_now(server)
    return "%d framings" % len(frames)


def cut_at(server, other, stream, cut, reply, frame):
    with server.connect() as client:
        client.sendall(stream[:cut])
        # When another one has its reply, the first piece has been read.
        other.sendall(frame)
        read_exactly(other, len(reply))
        return talk(client, stream[cut:])


@case("F49", "a message byte by byte: the work is linear")
def f49(t):
    server = t.serve("-f", "lines,max=1m")
    size = 1 << 20 if t.long else 1 << 19
    with server.connect() as client:
        cpu = server.cpu()
        for _ in range(size):
            client.send(b"x")
        client.sendall(b"\n")
        check(len(read_exactly(client, size + 1)) == size + 1, "not all")
        used = (server.cpu() - cpu) / size * 1e6
    # A read takes a few; a look at all that is there, for each byte, would take 25 more, or 50.
    check(used < 20, "%.1f us of CPU a byte", used)
    return "%.1f us of CPU a byte" % used


@case("F50", "messages as long as a buffer, and 1, 2 more and less")
def f50(t):
    for spec, frame in (("u32be,max=70000", u32be), ("lines,max=70000", line),
                        ("ascii:8,max=70000", ascii8)):
        server = t.serve("-f", spec, control=frame(b"control"))
        for size in (1 << 12, 1 << 14, 1 << 15, 1 << 16):
            for more in range(-12, 3):
                stream = frame(b"x" * (size + more)) * 2
                check(server.ask(stream) == stream, "%s: %d bytes", spec, size + more)


@case("F51", "a good message behind a bad one in the same segment")
def f51(t):
    server = t.serve("-f", "u32be", control=u32be(b"control"))
    refused(server, u32be(b"good"), b"\xff\xff\xff\xff", "u32be")
    t.closes(server, too_long=1)
    server = t.serve("-f", "lines,max=7")
    got = server.ask(b"good\n" + b"x" * 100 + b"\ngood\n")
    check(got == b"good\ngood\n", "lines: %r", got)
    t.closes(server, peer_eof=1)


@case("F52", "LF, CRLF, a lone CR, NUL, and no end at the end")
def f52(t):
    asked = [
        ("lines", b"a\r\nb\rc\nd\0e\n\n", b"a\nb\rc\nd\0e\n\n", "peer_eof"),
        ("lines", b"a\nb", b"a\n", "truncated"),
        ("lines,eof=message", b"a\nb", b"a\nb\n", "peer_eof"),
        ("lines:lf", b"a\r\nb\n", b"a\r\nb\n", "peer_eof"),
        ("lines:crlf", b"a\r\nb\r\n", b"a\r\nb\r\n", "peer_eof"),
        ("lines:crlf", b"a\r\nb\nc\r\n", b"a\r\n", "bad_frame"),
        ("nul", b"a\nb\0c\r\0", b"a\nb\0c\r\0", "peer_eof"),
    ]
    for spec, sent, wanted, reason in asked:
        control = {"lines:crlf": b"x\r\n", "nul": b"x\0"}.get(spec, b"x\n")
        server = t.serve("-f", spec, control=control)
        got = server.ask(sent)
        check(got == wanted, "%s: %r to %r", spec, got, sent)
        t.closes(server, **{reason: 1})
        t.judge_now(server)


@case("F53", "a line of the limit, and one more, with and without an end")
def f53(t):
    server = t.serve("-f", "lines,max=1000")
    longest, longer = b"x" * 1000 + b"\n", b"x" * 1001 + b"\n"
    check(server.ask(longest) == longest, "the longest did not come back")
    check(server.ask(longer + longest) == longest, "a byte more")
    with server.connect() as client:
        for _ in range(100):
            client.sendall(b"x" * 1000)
        client.sendall(b"\nnext\n")
        check(read_exactly(client, 5) == b"next\n", "not skipped")
    check(server.ask(b"x" * 1001) == b"", "without an end")
    t.closes(server, peer_eof=3, truncated=1)
    server.stop()
    server.hear(r"\[TOTALS\]")
    told = server.heard("BAD INPUT")
    check(len(told) == 3, "told %d times: %s", len(told), told)
    check(server.totals()["skipped"] == 2, "refused more than once: %s", server.totals())
    t.over(server)


@case("F54", "bytes that are no text")
def f54(t):
    server = t.serve()
    every = bytes(byte for byte in range(256) if byte not in b"\r\n")
    lines = [every, b"\0", b"\xff\xfe", b"\xc0\x80", b"\xed\xa0\x80", b"\xef\xbb\xbfbom", b"\xe2\x82"]
    for text in lines:
        check(server.ask(text + b"\n") == text + b"\n", "%r", text)
    t.closes(server, peer_eof=len(lines))


HELLO = bytes.fromhex("160301020001000001fc0303") + bytes(500)


@case("F55", "another protocol")
def f55(t):
    calls = [("TLS", HELLO), ("HTTP", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
             ("SSH", b"SSH-2.0-OpenSSH_9.6\r\n")]
    for spec, control in (("u32be", u32be(b"control")), ("ascii:8", ascii8(b"control"))):
        server = t.serve("-f", spec, control=control)
        for name, text in calls:
            with server.connect() as client:
                got = talk(client, text)
            check(got == b"", "%s was answered %r", name, got)
            server.hear(r"\[BAD INPUT\].*looks like " + name)
