"""Document 000, scenario 1, seen from the client: the server receives one message,
answers it and closes. Run against `--preset msgsocket --messages 1`."""

from msgsocket import MsgSocket
from peer import expect

client = MsgSocket()
client.send(b"only this")
expect("answer", client.receive(), b"only this")
expect("end", client.sock.recv(1), b"")
