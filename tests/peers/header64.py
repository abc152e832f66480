"""Document 004: a header of 64 bytes. Run against `--preset header64`."""

from peer import connect, expect

HEADER = 64
FORMAT = "utf-8"
DISCONNECT_MESSAGE = "!DISCONNECT"


def send(msg):
    message = msg.encode(FORMAT)
    send_length = str(len(message)).encode(FORMAT)
    send_length += b" " * (HEADER - len(send_length))
    client.send(send_length)
    client.send(message)
    return client.recv(2048).decode(FORMAT)


client = connect()
expect("hello", send("Hello World!"), "Msg received")
expect("more than ASCII", send("Grüße, 世界"), "Msg received")
expect("the closing word", send(DISCONNECT_MESSAGE), "Msg received")
expect("the end", client.recv(1), b"")
