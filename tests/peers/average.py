"""Document 001: the average of a list of numbers, sent with the string helpers. Run
against `--preset average`."""

import json
import pickle

from peer import connect, expect
from string8 import read_string, send_string


def ask(text):
    send_string(sock, text)
    return read_string(sock)


sock = connect()
numbers = [1, 2.5, -3, 2**40]
mean = sum(numbers) / len(numbers)
expect("text", ask("1 2 3"), "2")
expect("text with commas", float(ask(", ".join(map(str, numbers)))), mean)
expect("JSON", float(ask(json.dumps(numbers))), mean)
for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
    pickled = pickle.dumps(numbers, protocol)
    if protocol == 0:
        expect("pickle, as ASCII", float(ask(pickled.decode("ascii"))), mean)
    expect(f"pickle {protocol}, as latin-1", float(ask(pickled.decode("latin-1"))), mean)
    sock.sendall(b"%08d" % len(pickled) + pickled)
    expect(f"pickle {protocol}, as bytes", float(read_string(sock)), mean)


class Harmful:
    def __reduce__(self):
        return print, ("executed",)


for wrong in ["", "[]", "one two", pickle.dumps([Harmful()], 0).decode("ascii")]:
    expect(f"{wrong[:9]!r} is refused", ask(wrong)[:7], "error: ")
expect("and the connection lives", ask("[0.1]"), "0.1")
