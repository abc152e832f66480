"""Document 000: two throttles of a model railroad. Run against `--preset railroad`."""

from msgsocket import MsgSocket
from peer import expect


def sealed(*body):
    """With the checksum that makes the XOR of all bytes 0xFF."""
    checksum = 0xFF
    for byte in body:
        checksum ^= byte
    return bytes([*body, checksum])


class Throttle(MsgSocket):
    def ask(self, *body):
        self.send(sealed(*body))
        return self.receive()


driver, helper = Throttle(), Throttle()

# Turnout 7 was never set, so it is closed: an acknowledgement each, and both are known
# to the hub from here on.
closed = sealed(0xB4, 0x3C, 0x30)
expect("turnout, driver", driver.ask(0xBC, 7, 0), closed)
expect("turnout, helper", helper.ask(0xBC, 7, 0), closed)

engine = 1234
data = driver.ask(0xBF, engine // 128, engine % 128)
slot = data[2]
expect("slot data", data[:5], bytes([0xE7, 14, slot, 0x30, engine % 128]))
expect("rest of it", data[9], engine // 128)

speed, lights = sealed(0xA0, slot, 64), sealed(0xA1, slot, 0x10)
driver.send(speed)
driver.send(lights)
expect("speed, heard by the helper", helper.receive(), speed)
expect("lights, heard by the helper", helper.receive(), lights)

driver.send(b"\x83\x00")  # a wrong checksum: nobody hears of it
helper.send(sealed(0xB0, 7, 0x10))
thrown = sealed(0xB1, 7, 0x20)
expect("turnout, told to the driver", driver.receive(), thrown)
expect("turnout, told to who asked", helper.receive(), thrown)
expect("turnout, asked for", helper.ask(0xBC, 7, 0), sealed(0xB4, 0x3C, 0))

again = helper.ask(0xBF, engine // 128, engine % 128)
expect("the same engine, with its speed and lights", again[2:7], bytes([slot, 0x30, 82, 64, 0x10]))
