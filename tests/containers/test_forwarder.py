"""The forwarder's loop, with a server beside it instead of one in a namespace."""

from __future__ import annotations

import select
import socket
import threading

from dockermagic.sandbox import network_inside
from dockermagic.sandbox.network_inside import _Carrier


def test_who_connects_when_no_file_is_left_waits_until_another_has_gone() -> None:
    server = socket.create_server(("127.0.0.1", 0))

    def echo(one: socket.socket) -> None:
        with one:
            while data := one.recv(100):
                one.sendall(data)

    def serve() -> None:
        while True:
            threading.Thread(target=echo, args=(server.accept()[0],), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    carrier = _Carrier("127.0.0.1")
    carrier.most = 5  # what listens, and two connections
    outside = socket.create_server(("127.0.0.1", 0))
    carrier.listen(outside, server.getsockname()[1], "tcp")
    threading.Thread(target=carrier.run, daemon=True).start()

    clients = [socket.create_connection(outside.getsockname()) for _ in range(4)]
    for client in clients:
        client.sendall(b"x")
    for client in clients:
        assert client.recv(1) == b"x"
        assert len(carrier.heard) <= 5
        client.close()


def test_a_side_that_is_gone_is_not_looked_at_while_the_other_does_not_read() -> None:
    """The server breaks off while much is on its way: the loop sleeps, and who reads late gets what came."""
    server = socket.create_server(("127.0.0.1", 0))
    carrier = _Carrier("127.0.0.1")
    outside = socket.create_server(("127.0.0.1", 0))
    carrier.listen(outside, server.getsockname()[1], "tcp")
    turns = 0
    poll = carrier.poll.poll

    class Counting:
        def __getattr__(self, name: str) -> object:
            return getattr(carrier_poll, name)

        def poll(self) -> list[tuple[int, int]]:
            nonlocal turns
            turns += 1
            return poll()

    carrier_poll = carrier.poll
    carrier.poll = Counting()  # type: ignore[assignment]
    threading.Thread(target=carrier.run, daemon=True).start()
    client = socket.create_connection(outside.getsockname())
    client.sendall(b"x")
    inside, _ = server.accept()
    inside.setblocking(False)
    sent = 0
    while True:
        _, writable, _ = select.select([], [inside], [], 0.2)
        if not writable:
            break
        sent += inside.send(bytes(1 << 16))
    inside.close()  # with a byte that it did not read: the connection is reset
    before = turns
    threading.Event().wait(0.3)
    assert turns - before < 20
    got = 0
    while data := client.recv(1 << 16):
        got += len(data)
    assert got > 0


def test_senders_of_datagrams_are_bounded_and_the_oldest_goes() -> None:
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 0))
    carrier = _Carrier("127.0.0.1")
    outside = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    outside.bind(("127.0.0.1", 0))
    carrier.listen(outside, server.getsockname()[1], "udp")
    threading.Thread(target=carrier.run, daemon=True).start()

    for number in range(network_inside._MOST_SENDERS + 10):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.connect(outside.getsockname())
            client.send(b"%d" % number)
            data, sender = server.recvfrom(100)
            server.sendto(data, sender)
            assert client.recv(100) == b"%d" % number
    assert len(carrier.heard) == network_inside._MOST_SENDERS + 1
