"""Twisted's receivers as clients of an echo: LineReceiver, Int32StringReceiver or
NetstringReceiver, named by the second argument."""

import sys

try:
    from twisted.internet import protocol, reactor
    from twisted.protocols import basic
except ImportError as error:
    print(f"missing: {error}")
    sys.exit(77)

# All of them before the first answer, in sizes around those of buffers.
SIZES = [0, 1, 2, 100, 1000, 0, 4095, 4096, 4097, 16000] * 20
MESSAGES = [bytes([97 + index % 26]) * size for index, size in enumerate(SIZES)]


class Client:
    MAX_LENGTH = 1 << 20
    answers = 0

    def connectionMade(self):
        for message in MESSAGES:
            self.say(message)
        self.transport.loseWriteConnection()

    def received(self, message):
        if message != MESSAGES[self.answers]:
            print(f"answer {self.answers} is {len(message)} bytes, not {SIZES[self.answers]}")
            self.transport.abortConnection()
        self.answers += 1

    lineReceived = stringReceived = received

    def connectionLost(self, reason):
        print(f"{self.answers} of {len(MESSAGES)} answers, then: {reason.getErrorMessage()}")
        reactor.stop()


class Lines(Client, basic.LineReceiver):
    say = basic.LineReceiver.sendLine


class Int32(Client, basic.Int32StringReceiver):
    say = basic.Int32StringReceiver.sendString


class Netstrings(Client, basic.NetstringReceiver):
    say = basic.NetstringReceiver.sendString


receiver = {"lines": Lines, "int32": Int32, "netstrings": Netstrings}[sys.argv[2]]()
host, port = sys.argv[1].rsplit(":", 1)
factory = protocol.ClientFactory()
factory.buildProtocol = lambda _: receiver
factory.clientConnectionFailed = lambda *_: reactor.stop()
reactor.connectTCP(host, int(port), factory)
reactor.callLater(15, lambda: reactor.running and reactor.stop())
reactor.run()
sys.exit(receiver.answers != len(MESSAGES))
