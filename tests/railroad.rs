//! The hub of the railroad, byte for byte: who hears what of each message.

#[expect(dead_code, reason = "the tests of the loop itself need the rest")]
mod support;

use oneloop::services::Railroad;
use oneloop::{Limits, Server, Varint};
use support::{Script, settle};

/// A hub with three throttles.
struct Hub {
    server: Server<Script>,
    script: Script,
}

const NOBODY: [&[u8]; 3] = [&[], &[], &[]];

impl Hub {
    fn new() -> Self {
        let script = Script::new();
        let mut server = Server::with_sys(script.clone());
        let hub = server.add(Varint::base128(), Railroad::default(), Limits::default());
        server.listen(hub.expect("valid settings"), "127.0.0.1:1234").expect("a script");
        script.calls(0..3);
        settle(&mut server);
        Self { server, script }
    }

    /// The first throttle says it; returns what the three hear, their frames removed.
    fn says(&mut self, message: &[u8]) -> [Vec<u8>; 3] {
        let [low, high] = [message.len() % 128, message.len() / 128].map(|digit| digit as u8);
        self.script.peer_sends(0, [&[low, high], message].concat());
        settle(&mut self.server);
        std::array::from_fn(|socket| {
            let heard = self.script.sent(socket);
            let mut messages = Vec::new();
            let mut rest = &heard[..];
            while let [low, high, more @ ..] = rest {
                let (message, more) = more.split_at(usize::from(*low) + 128 * usize::from(*high));
                messages.extend_from_slice(message);
                rest = more;
            }
            messages
        })
    }

    /// The first throttle says it, with its checksum; it hears what is returned.
    fn asks(&mut self, body: &[u8]) -> Vec<u8> {
        let [answer, ..] = self.says(&sealed(body));
        answer
    }
}

fn sealed(body: &[u8]) -> Vec<u8> {
    let sum = body.iter().fold(0xff, |sum, byte| sum ^ byte);
    [body, &[sum]].concat()
}

/// Checksums are written out: this is the wire, not a formula.
#[test]
fn each_message_is_heard_by_those_it_concerns() {
    let mut hub = Hub::new();
    type Case = (&'static str, &'static [u8], [&'static [u8]; 3]);
    #[rustfmt::skip]
    let cases: &[Case] = &[
        // what                        said by the first                heard by first, second, third
        ("power off",                  b"\x82\x7d",                     [b"", b"\x82\x7d", b"\x82\x7d"]),
        ("power on",                   b"\x83\x7c",                     [b"", b"\x83\x7c", b"\x83\x7c"]),
        ("a slot for engine 1234",     b"\xbf\x09\x52\x1b",             [b"\xe7\x0e\x01\x30\x52\0\0\0\0\x09\0\0\0\x7c", b"", b""]),
        ("its speed",                  b"\xa0\x01\x40\x1e",             [b"", b"\xa0\x01\x40\x1e", b"\xa0\x01\x40\x1e"]),
        ("its lights, backward",       b"\xa1\x01\x30\x6f",             [b"", b"\xa1\x01\x30\x6f", b"\xa1\x01\x30\x6f"]),
        ("its sound off",              b"\xa2\x01\x08\x54",             [b"", b"\xa2\x01\x08\x54", b"\xa2\x01\x08\x54"]),
        ("the same engine again",      b"\xbf\x09\x52\x1b",             [b"\xe7\x0e\x01\x30\x52\x40\x30\0\0\x09\x08\0\0\x04", b"", b""]),
        ("another engine",             b"\xbf\0\x03\x43",               [b"\xe7\x0e\x02\x30\x03\0\0\0\0\0\0\0\0\x27", b"", b""]),
        ("register a slot",            b"\xba\x05\x05\x45",             [b"\xe7\x0e\x05\x30\0\0\0\0\0\0\0\0\0\x23", b"", b""]),
        ("clear a slot",               b"\xef\x0e\x01\x0b\0\0\0\0\0\0\0\0\0\x14", NOBODY),
        ("it is the first free one",   b"\xbf\0\x04\x44",               [b"\xe7\x0e\x01\x30\x04\0\0\0\0\0\0\0\0\x23", b"", b""]),
        ("turnout never set",          b"\xbc\x10\0\x53",               [b"\xb4\x3c\x30\x47", b"", b""]),
        ("throw it",                   b"\xb0\x10\x10\x4f",             [b"\xb1\x10\x20\x7e"; 3]),
        ("it is thrown",               b"\xbc\x10\0\x53",               [b"\xb4\x3c\0\x77", b"", b""]),
        ("close it",                   b"\xb0\x10\x30\x6f",             [b"\xb1\x10\x30\x6e"; 3]),
        ("it is closed",               b"\xbc\x10\0\x53",               [b"\xb4\x3c\x30\x47", b"", b""]),
        ("a sensor",                   b"\xb2\x07\x50\x1a",             [b"", b"\xb2\x07\x50\x1a", b"\xb2\x07\x50\x1a"]),
        ("the controller's own",       b"\0hello",                      [b"", b"\0hello", b"\0hello"]),
        ("the shortest of them",       b"\0",                           [b"", b"\0", b"\0"]),
        ("an unknown opcode",          b"\xd0\x01\x02\x03\x2f",         [b"", b"\xd0\x01\x02\x03\x2f", b"\xd0\x01\x02\x03\x2f"]),
    ];
    for (what, said, expected) in cases {
        assert_eq!(hub.says(said), expected.map(<[u8]>::to_vec), "{what}");
    }
}

#[test]
fn what_is_no_message_is_heard_by_nobody_and_changes_nothing() {
    let mut hub = Hub::new();
    let before = hub.asks(b"\xba\x01\x01");
    let [slot_0, slot_128] = [b"\xa0\x00\x11".as_slice(), b"\xa0\x80\x11"].map(sealed);
    let broken: [(&str, Vec<u8>); 16] = [
        ("nothing", vec![]),
        ("an opcode alone", vec![0x83]),
        ("an opcode that is its own checksum", vec![0xff]),
        ("no opcode", sealed(b"\x01\x02")),
        ("no opcode either", sealed(b"\x7f")),
        ("a wrong checksum", b"\xa0\x01\x40\x1f".to_vec()),
        ("a speed without speed", sealed(b"\xa0\x01")),
        ("a speed and more", sealed(b"\xa0\x01\x40\x00")),
        ("power with a body", sealed(b"\x82\x00")),
        ("slot 0", slot_0),
        ("slot 128", slot_128),
        ("an opcode inside", sealed(b"\xa0\x01\x83")),
        ("a slot to be moved", sealed(b"\xba\x01\x02")),
        ("a turnout half thrown", sealed(b"\xb0\x01\x20")),
        ("slot data that clears nothing", sealed(b"\xef\x0e\x01\x30\0\0\0\0\0\0\0\0\0")),
        ("a question with an answer in it", sealed(b"\xbc\x01\x01")),
    ];
    for (what, message) in &broken {
        assert_eq!(hub.says(message), NOBODY.map(<[u8]>::to_vec), "{what}");
    }
    assert_eq!(hub.asks(b"\xba\x01\x01"), before);
    assert_eq!(hub.server.counters().open, 3, "nobody is sent away");
}

#[test]
fn the_128th_engine_gets_no_slot_until_one_is_cleared() {
    let mut hub = Hub::new();
    for engine in 1..=127 {
        let data = hub.asks(&[0xbf, 0, engine]);
        assert_eq!(data[..5], [0xe7, 0x0e, engine, 0x30, engine], "engine {engine}");
    }
    let none = sealed(b"\xb4\x3f\x00");
    assert_eq!(hub.asks(b"\xbf\x01\x00"), none);
    assert_eq!(hub.asks(b"\xbf\x00\x40")[2], 0x40, "who has a slot keeps it");
    assert_eq!(hub.asks(b"\xef\x0e\x21\x0b\0\0\0\0\0\0\0\0\0"), b"");
    assert_eq!(hub.asks(b"\xbf\x01\x00")[..5], [0xe7, 0x0e, 0x21, 0x30, 0x00]);
    assert_eq!(hub.asks(b"\xbf\x01\x01"), none);
}

/// A failure prints its seed.
#[test]
fn of_random_bytes_only_what_has_the_right_checksum_is_passed_on() {
    for seed in 0..2_000_u64 {
        let mut hub = Hub::new();
        let mut state = seed;
        let mut random = || {
            // SplitMix64
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        };
        for _ in 0..20 {
            let len = random() as usize % 16;
            let mut message: Vec<u8> = (0..len).map(|_| random() as u8 & 0x7f).collect();
            let mut right = false;
            if let [first, .., last] = &mut message[..] {
                *first |= 0x80;
                // Every other one is right, or may be by chance.
                *last = random() as u8;
                if random() % 2 == 0 {
                    let len = message.len();
                    message = sealed(&message[..len - 1]);
                }
                right = message.iter().fold(0, |sum, byte| sum ^ byte) == 0xff;
            }
            let [_, second, third] = hub.says(&message);
            assert_eq!(second, third, "seed {seed}: {message:x?}");
            let passed_on = second == message && !message.is_empty();
            let told = second.first() == Some(&0xb1) && message.first() == Some(&0xb0);
            let heard = passed_on || told;
            assert!(right || message.first() == Some(&0) || !heard, "seed {seed}: {message:x?}");
            assert!(heard || second.is_empty(), "seed {seed}: {message:x?} became {second:x?}");
        }
    }
}
