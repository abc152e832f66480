"""F56 to F70: JSON, XML and HTTP, which size themselves."""

import resource

from harness import SAME_LENGTH, case, check, read_exactly, talk


def small_stack(t):
    """Not optimised, the options of the command line alone take more than 256 KiB."""
    size = (1 << 20) if t.unoptimised else (256 << 10)
    return lambda: resource.setrlimit(resource.RLIMIT_STACK, (size, size))


def json(t, *more, **how):
    return t.serve("-f", ",".join(("json",) + more), control=b"[1]", reply=b"[1]\n", **how)


def xml(t, *more, **how):
    return t.serve("-f", ",".join(("xml",) + more), control=b"<a/>", reply=b"<a/>\n", **how)


def refuses(server, bad, good, reply):
    """The good one before it is answered, the one behind it is not, and the log says why."""
    with server.connect() as client:
        got = talk(client, good + bad + good)
    check(got.strip() == reply.strip(), "%r: %r", bad[:40], got[:60])


def each_refused(server, bad, good, reply):
    for text in bad:
        refuses(server, text, good, reply)


@case("F56", "JSON that opens 1,000,000 times")
def f56(t):
    server = json(t, prepare=small_stack(t))
    bad = [b"[" * 1000000, b'{"a":' * 1000000]
    each_refused(server, bad, b"[2]", b"[2]")
    t.closes(server, bad_frame=2)
    deep = json(t, "depth=128", prepare=small_stack(t))
    text = b"[" * 128 + b"]" * 128
    check(deep.ask(text).strip() == text, "128 deep, as allowed")
    refuses(deep, b"[" + text + b"]", b"[2]", b"[2]")
    t.closes(deep, bad_frame=1, peer_eof=1)


@case("F57", "JSON numbers without end")
def f57(t):
    server = json(t)
    for text in (b"[1e999999999]", b"[" + b"9" * 1000000 + b"]"):
        cpu = server.cpu()
        check(server.ask(text).strip() == text, "not the same back")
        check(server.cpu() - cpu < 0.5, "%.2f s for it", server.cpu() - cpu)
    with server.connect() as client:
        check(talk(client, b"9" * ((1 << 20) + 1)) == b"", "above the limit")
    t.closes(server, peer_eof=2, too_long=1)


@case("F58", "JSON strings: never closed, escapes, surrogates, NUL")
def f58(t):
    server = json(t)
    for text in (b'"\\ud800"', b'"\\\\"', b'"\\""', b'["\\\\\\"]"]'):
        for cut in range(1, len(text)):
            with server.connect() as client:
                client.sendall(text[:cut])
                check(talk(client, text[cut:]).strip() == text, "%r cut at %d", text, cut)
    with server.connect() as client:
        check(talk(client, b'"' + b"x" * (2 << 20)) == b"", "a string without end")
    check(server.ask(b'"x') == b"", "a string that is not closed")


@case("F59", "JSON values back to back")
def f59(t):
    server = json(t)
    asked = {
        b'{"a":1}[2]"x"': b'{"a":1}\n[2]\n"x"\n', b"12 34\n": b"12\n34\n",
        b"[1] \r\n\t[2]": b"[1]\n[2]\n", b"true false null ": b"true\nfalse\nnull\n",
    }
    for sent, wanted in asked.items():
        got = server.ask(sent)
        check(got == wanted, "%r: %r", sent, got)
    with server.connect() as client:
        client.sendall(b"12 3")
        check(read_exactly(client, 3) == b"12\n", "the space ends the number")
        check(talk(client, b"4 ") == b"34\n", "no number ends by itself")


LAUGHS = b"""<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]><a>&b;</a>"""


@case("F60", "XML with a DOCTYPE")
def f60(t):
    server = xml(t)
    bad = [LAUGHS, b"<!DOCTYPE a>", b'<!DOCTYPE a SYSTEM "http://127.0.0.1:1/x"><a/>']
    each_refused(server, bad, b"<b/>", b"<b/>")
    t.closes(server, bad_frame=3)


@case("F61", "XML 1,000,000 deep; 80,000 attributes; 100,000 xmlns")
def f61(t):
    server = xml(t, "max=8m", prepare=small_stack(t))
    refuses(server, b"<a>" * 1000000, b"<b/>", b"<b/>")
    wide = b"<a" + b"".join(b' a%d="1"' % n for n in range(80000)) + b"/>"
    named = b"<a" + b"".join(b' xmlns:n%d="u"' % n for n in range(100000)) + b"/>"
    used = []
    for text in (wide, named):
        cpu = server.cpu()
        got = server.ask(text)
        used.append(server.cpu() - cpu)
        check(got.strip() in (text, b""), "other bytes came back")
        check(used[-1] < 1, "%.2f s of CPU", used[-1])
    return "%.0f and %.0f ms of CPU" % (used[0] * 1000, used[1] * 1000)


@case("F62", "XML comments, CDATA, instructions: unclosed, and cut everywhere")
def f62(t):
    server = xml(t)
    for text in (b"<a><!-- -> - > --></a>", b"<a><![CDATA[ ]] ]> ]]></a>", b"<a><?p ? > ?></a>"):
        for cut in range(1, len(text)):
            with server.connect() as client:
                client.sendall(text[:cut])
                check(talk(client, text[cut:]).strip() == text, "%r cut at %d", text, cut)
    for text in (b"<a><!--", b"<a><![CDATA[", b"<a><?p "):
        with server.connect() as client:
            check(talk(client, text + b"x" * (2 << 20)) == b"", "%r without end", text)


@case("F63", "XML in UTF-16, with a BOM, two documents in one segment")
def f63(t):
    server = xml(t)
    bad = ["<a/>".encode("utf-16"), b'<?xml version="1.0" encoding="UTF-16"?><a/>']
    each_refused(server, bad, b"<b/>", b"<b/>")
    got = server.ask(b"<a/><b>x</b>\n<c/>")
    check([part for part in got.replace(b"\n", b"").replace(b"><", b"> <").split()] ==
          [b"<a/>", b"<b>x</b>", b"<c/>"], "two documents: %r", got)
    return "BOM: %r" % server.ask(b"\xef\xbb\xbf<a/>").strip()


# ---- HTTP

HOST = b"Host: x\r\n"
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def http(t, **how):
    """Echo: the request is the body of the reply."""
    return t.serve("-f", "http", control=GET, reply=SAME_LENGTH, **how)


def replies(server, data):
    """The status of each reply, and their bodies."""
    with server.connect() as client:
        got = talk(client, data)
    statuses, bodies = [], []
    while got:
        head, _, got = got.partition(b"\r\n\r\n")
        statuses.append(int(head.split()[1]))
        length = [text for text in head.split(b"\r\n") if text.lower().startswith(b"content-length")]
        length = int(length[0].split(b":")[1]) if length else 0
        bodies.append(got[:length])
        got = got[length:]
    return statuses, bodies


def each_is_400(server, bad, *allowed):
    """One refusal, and what stands behind is never taken for a request."""
    for text in bad:
        statuses, _ = replies(server, text + b"GET /smuggled HTTP/1.1\r\n" + HOST + b"\r\n")
        check(len(statuses) == 1 and statuses[0] in (400, *allowed), "%r: %s", text[:90], statuses)


def post(fields, body=b""):
    return b"POST / HTTP/1.1\r\n" + HOST + fields + b"\r\n" + body


@case("F64", "HTTP with both lengths, and transfer codings that are none")
def f64(t):
    server = http(t)
    chunks = b"5\r\nhello\r\n0\r\n\r\n"
    bad = [post(b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", chunks)]
    bad += [post(b"Transfer-Encoding: %s\r\n" % coding, chunks) for coding in (
        b"xchunked", b"chunked, identity", b"chunked, chunked", b"chunked\r\nTransfer-Encoding: chunked",
        b"\x0bchunked")]
    bad.append(b"POST / HTTP/1.0\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)
    each_is_400(server, bad, 501)


@case("F65", "HTTP lengths twice, signed, spaced, with junk, of 20 digits")
def f65(t):
    server = http(t)
    values = [b"5\r\nContent-Length: 6", b"5, 6", b"+5", b"-5", b"5 5", b"12junk", b"0x5", b"",
              b"5\r\nContent-Length: 5", b"5, 5", b"99999999999999999999", b"\xd9\xa3"]
    each_is_400(server, [post(b"Content-Length: %s\r\n" % value, b"hello") for value in values],
                413)


@case("F66", "HTTP chunk sizes")
def f66(t):
    server = http(t)
    sizes = [b"0x5\r\nhello", b"FFFFFFFFFFFFFFFF\r\nhello", b"FFFFFFFFFFFFFFFFF\r\nhello",
             b"-5\r\nhello", b" 5\r\nhello", b"5\nhello", b"5\r\nhelloX", b"5\r\nhello\n",
             b"5;" + b"x" * (16 << 10) + b"\r\nhello", b"0" * 5000 + b"5\r\nhello"]
    each_is_400(server, [post(b"Transfer-Encoding: chunked\r\n", size + b"\r\n0\r\n\r\n")
                         for size in sizes], 413)


@case("F67", "HTTP heads: floods, folds, spaces, nameless fields")
def f67(t):
    server = http(t)
    fields = [b"a: b\r\n" * 10000, b"a: " + b"x" * (1 << 20) + b"\r\n", b"a: b\r\n c\r\n",
              b"a : b\r\n", b": b\r\n", b"a\r\n"]
    bad = [b"GET / HTTP/1.1\r\n" + HOST + field + b"\r\n" for field in fields]
    bad.append(b"GET /" + b"x" * (64 << 10) + b" HTTP/1.1\r\n" + HOST + b"\r\n")
    each_is_400(server, bad, 431, 414)


@case("F68", "HTTP: CR, LF, NUL inside values")
def f68(t):
    server = http(t)
    each_is_400(server, [b"GET / HTTP/1.1\r\n" + HOST + b"a: b" + byte + b"c\r\n\r\n"
                         for byte in (b"\r", b"\0", b"\n\n", b"\r\r\n")])
    return "the encoder's own refusals: the library's tests"


@case("F69", "HTTP: a GET with a body, a request behind an unread body, Expect, Upgrade")
def f69(t):
    server = http(t)
    body = b"GET /smuggled HTTP/1.1\r\n" + HOST + b"\r\n"
    with_body = b"GET /one HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % len(body) + body
    statuses, bodies = replies(server, with_body + GET)
    check(statuses == [200, 200] and bodies[0].startswith(b"GET /one"), "%s %r", statuses, bodies)
    statuses, _ = replies(server, post(b"Upgrade: x\r\nConnection: upgrade\r\nContent-Length: 0\r\n")
                          + GET)
    check(statuses == [200, 200], "Upgrade: %s", statuses)
    with server.connect() as client:
        client.sendall(post(b"Expect: 100-continue\r\nContent-Length: 5\r\n"))
        interim = read_exactly(client, 25)
        check(interim == b"HTTP/1.1 100 Continue\r\n\r\n", "%r", interim)
        check(talk(client, b"hello").startswith(b"HTTP/1.1 200"), "the reply behind it")


@case("F70", "HTTP: requests that are right, cut at each byte")
def f70(t):
    server = http(t)
    chunked = post(b"Transfer-Encoding: chunked\r\n", b"5\r\nhello\r\n0\r\n\r\n")
    stream = GET + post(b"Content-Length: 5\r\n", b"hello") + chunked + GET
    with server.connect() as other:
        for cut in range(1, len(stream)):
            with server.connect() as client:
                client.sendall(stream[:cut])
                other.sendall(b"HEAD / HTTP/1.1\r\n" + HOST + b"\r\n")
                while b"\r\n\r\n" not in other.recv(65536):
                    pass
                got = talk(client, stream[cut:])
            check(got.count(b"HTTP/1.1 200 OK\r\n") == 4, "cut at %d: %r", cut, got[-100:])
    return "the 33 checks of h1spec: tests/http.rs"
