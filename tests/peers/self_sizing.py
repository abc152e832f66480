"""Document 001: text that sizes itself. Values of json.dumps, or documents of ElementTree,
back to back and cut anywhere; the second argument says which. Run against an echo in
that framing."""

import json
import sys
import xml.etree.ElementTree as xml

from peer import connect, expect


def values():
    """What json and ElementTree make of Python's own."""
    yield {"firstPoint": {"x": 5, "y": 6}, "secondPoint": {"x": 2, "y": 0}, "color": "Dark Blue"}
    yield ["\\", '"', "}]{[", "<a>&", "naïve €", "\u2028", ""]
    yield {str(n): [n, {"deep": [[[n]]]}] for n in range(500)}


def document(value):
    line = xml.Element("line", {"color": "Dark 'Blue' > \"Red\""})
    for part in value:
        point = xml.SubElement(line, "point", {"x": json.dumps(part)[:50], "y": "6"})
        point.text = "a < b ]]> & c"
    line.append(xml.Comment(" <point> > "))
    return line


def dumped(value):
    if sys.argv[2] == "json":
        return json.dumps(value, ensure_ascii=False, indent=2).encode()
    return xml.tostring(document(value), encoding="utf-8", xml_declaration=True)


sock = connect()
stream = b"".join(dumped(value) for value in values())
for start in range(0, len(stream), 997):
    sock.sendall(stream[start : start + 997])
sock.shutdown(1)
answer = b"".join(iter(lambda: sock.recv(4096), b""))
# Each comes back with a line end behind it, and otherwise as it was.
expect("as it was", answer == b"".join(dumped(value) + b"\n" for value in values()), True)
