"""Document 000: message sockets. Two digits to the base of 128, the low one first, say
how long a message is. Run against `--preset msgsocket`."""

from peer import connect, expect, receive_all_bytes


class MsgSocket:
    def __init__(self):
        self.sock = connect()

    def send(self, message):
        high, low = divmod(len(message), 128)
        self.sock.sendall(bytes([low, high]) + message)

    def receive(self):
        low, high = receive_all_bytes(self.sock, 2)
        return receive_all_bytes(self.sock, low + 128 * high)

    def close(self):
        self.sock.close()


def scenario_1():
    """One message, and the client closes."""
    client = MsgSocket()
    client.send(bytes("hello", "ascii"))
    client.close()


def scenario_2():
    """Several messages both ways, and several clients at once."""
    clients = [MsgSocket() for _ in range(3)]
    for text in ["hello", "", "x" * 127, "y" * 128, "z" * 16383]:
        for client in clients:
            client.send(bytes(text, "ascii"))
    for text in ["hello", "", "x" * 127, "y" * 128, "z" * 16383]:
        for client in clients:
            expect("echo", len(client.receive()), len(text))
    for client in clients:
        client.close()


if __name__ == "__main__":
    scenario_1()
    scenario_2()
