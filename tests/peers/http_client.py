"""Python's http.client and json: requests of all kinds on one connection, against an
echo in framing http. What comes back is the request, as the service saw it."""

import http.client
import json
import sys

from peer import expect

connection = http.client.HTTPConnection(sys.argv[1], timeout=10)


def ask(*args, **kwargs):
    connection.request(*args, **kwargs)
    response = connection.getresponse()
    body = response.read()
    expect("status", response.status, 200)
    expect("length", int(response.getheader("Content-Length")), len(body))
    expect("date", response.getheader("Date").endswith(" GMT"), True)
    return body


value = {"numbers": list(range(5000)), "text": "naïve €"}
document = json.dumps(value).encode()
head, _, body = ask("POST", "/a?b=c", body=document).partition(b"\r\n\r\n")
expect("first line", head.split(b"\r\n")[0], b"POST /a?b=c HTTP/1.1")
expect("json", json.loads(body), value)

# A body of unknown length goes in chunks.
pieces = (document[at : at + 777] for at in range(0, len(document), 777))
chunked = ask("PUT", "/", body=pieces, encode_chunked=True, headers={"Transfer-Encoding": "chunked"})
expect("joined", chunked.partition(b"\r\n\r\n")[2], document)

first = connection.sock
expect("GET", ask("GET", "/").partition(b" ")[0], b"GET")
connection.request("HEAD", "/")
expect("HEAD", connection.getresponse().read(), b"")
expect("the same connection", connection.sock is first, True)

connection.request("GET", "/", headers={"Connection": "close"})
last = connection.getresponse()
expect("the last", (last.getheader("Connection"), bool(last.read())), ("close", True))

# What cannot be is refused, with a reason.
connection.request("POST", "/", body=b"x" * 100, headers={"Content-Length": "99999999"})
refused = connection.getresponse()
expect("too large", (refused.status, refused.reason), (413, "Content Too Large"))
