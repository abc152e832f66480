"""Document 001: strings behind 8 digits. Run against `--preset string8`."""

from peer import connect, expect, receive_all_bytes


def send_string(sock, msg):
    slen = str(len(msg.encode()))
    while len(slen) < 8:
        slen = "0" + slen
    sock.sendall(slen.encode())
    sock.sendall(msg.encode())


def read_string(sock):
    slen = receive_all_bytes(sock, 8)
    return receive_all_bytes(sock, int(slen)).decode()


if __name__ == "__main__":
    sock = connect()
    for text in ["HelloWorld", "", "naïve café €", "x" * 100_000]:
        send_string(sock, text)
        expect(f"{len(text)} characters", read_string(sock) == text, True)
