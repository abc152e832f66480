"""Document 002: the published client, socket-oneline. Run against `--preset oneline`."""

import threading

from peer import connect, expect
import sys

try:
    from socket_oneline import OnelineClient
except ImportError as error:
    print(f"missing: {error}")
    sys.exit(77)

host, port = sys.argv[1].rsplit(":", 1)


def oneline_client():
    client = OnelineClient()
    expect("init", client.init(ip_address=host, ip_port=int(port)), True)
    return client


first, second = oneline_client(), oneline_client()
expect("ping is answered", first.connect(), True)
first.send("cmd01")
expect("a packet comes back", first.recv(), "cmd01")

# One client at a time: the second is served as soon as the first has left.
waiting = threading.Thread(target=second.connect)
waiting.start()
first.send("still here")
expect("the first is served", first.recv(), "still here")
expect("the second waits", second.connected, False)
first.disconnect()
waiting.join()
expect("and has its turn", second.connected, True)

# What cannot be text is said to be invalid; the published client cannot send it.
second.disconnect()
third = connect()
third.sendall(b"\xff\xfe\n")
expect("no text", third.recv(100), b"invalid\n")
third.close()

last = oneline_client()
expect("ping is answered again", last.connect(), True)
last.shutdown()
