"""Document 003: <size><data>, and a thread that prints receipts beside sending. Run
against `--preset sized`."""

import threading

from peer import connect, expect, receive_all_bytes

COUNT = 1000


def acknowledge(sock, receipts):
    while len(receipts) < COUNT:
        size = int.from_bytes(receive_all_bytes(sock, 4), "big")
        receipts.append(receive_all_bytes(sock, size).decode("utf-8"))


sock = connect()
receipts = []
thread = threading.Thread(target=acknowledge, args=(sock, receipts))
thread.start()
for index in range(COUNT):
    data = f"sending ... {index}".encode()
    # Two sends, as the document has it: one for the size and one for the data.
    sock.send(len(data).to_bytes(4, "big"))
    sock.send(data)
thread.join(timeout=10)
expect("receipts", len(receipts), COUNT)
expect("each of them", set(receipts), {"Msg received"})
