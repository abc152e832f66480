//! The hub of a model railroad: what its throttles say, each hears that it concerns.
//!
//! ```text
//!  throttle ── set speed of slot 3 ──▶ hub ──▶ everyone else
//!  throttle ── slot for engine 1234? ─▶ hub ── slot 3, speed, lights ──▶ back
//!  throttle ── throw turnout 17 ─────▶ hub ── turnout 17 is thrown ────▶ everyone
//! ```
//!
//! A throttle is a hand-held train controller; its messages are those of LocoNet, the
//! bus of a model railroad (LocoNet Personal Use Edition 1.0, whose names the opcodes
//! have here). Knows messages only: any framing can carry them.

use std::fmt;

use crate::proto::service::{Audience, Context, Served, Service};
use crate::throttle::Throttle;

/// Keeps engines and turnouts of a model railroad, and tells the throttles of each
/// other. `--service railroad`.
///
/// `chk` makes the XOR of all bytes 0xFF; other bytes behind the opcode are below 0x80.
///
/// | message | bytes | the hub |
/// |---|---|---|
/// | power off, on | `82 chk`, `83 chk` | tells everyone else |
/// | speed | `A0 slot speed chk` | stores it, tells everyone else |
/// | direction, lights, horn, bell | `A1 slot dirf chk` | stores it, tells everyone else |
/// | mute, F5, F6 | `A2 slot snd chk` | stores it, tells everyone else |
/// | turnout, `arg` 30 to close, 10 to throw | `B0 turnout arg chk` | stores it, tells everyone `B1 turnout st chk`: `st` 30 closed, 20 thrown |
/// | sensor | `B2 sn1 sn2 chk` | tells everyone else |
/// | register a slot | `BA slot slot chk` | marks it in use, answers with its data |
/// | turnout? | `BC turnout 00 chk` | answers `B4 3C 30 chk` closed or never set, `B4 3C 00 chk` thrown |
/// | slot for an engine | `BF high low chk` | finds or assigns one, answers with its data; `B4 3F 00 chk` if none is free |
/// | clear a slot | `EF 0E slot 0B` and nine zeros, `chk` | frees it |
/// | the controller's own | `00 ...`, without `chk` | tells everyone else |
/// | any other opcode | `80` to `FF ... chk` | tells everyone else |
///
/// The data of a slot, 1 to 127, is `E7 0E slot status low speed dirf 00 00 high snd 00
/// 00 chk`: `status` 30 in use, 00 free; the engine's address in two digits to the base
/// of 128. What is none of this is logged (a line in ten seconds at most), counted
/// ([`dropped`](Self::dropped)) and told to nobody; the throttle stays.
///
/// Use it with [`Varint::base128`](crate::Varint::base128), the framing of its message
/// sockets.
#[derive(Debug)]
pub struct Railroad {
    /// By their number; the one of 0 is not used.
    slots: [Slot; SLOTS],
    thrown: [bool; TURNOUTS],
    dropped: u64,
    /// Dropped since the last line in the log.
    unsaid: u64,
    warnings: Throttle,
}

const SLOTS: usize = 128;
const TURNOUTS: usize = 128;

/// What is known of one engine.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    in_use: bool,
    /// The digits of the engine's address, to the base of 128: high and low.
    engine: Option<[u8; 2]>,
    speed: u8,
    /// Direction, lights, horn and bell.
    dirf: u8,
    /// Mute and functions 5 and 6.
    snd: u8,
}

const OPC_LOCO_SPD: u8 = 0xA0;
const OPC_LOCO_DIRF: u8 = 0xA1;
const OPC_LOCO_SND: u8 = 0xA2;
const OPC_SW_REQ: u8 = 0xB0;
const OPC_SW_REP: u8 = 0xB1;
const OPC_INPUT_REP: u8 = 0xB2;
const OPC_LONG_ACK: u8 = 0xB4;
const OPC_MOVE_SLOTS: u8 = 0xBA;
const OPC_SW_STATE: u8 = 0xBC;
const OPC_LOCO_ADR: u8 = 0xBF;
const OPC_SL_RD_DATA: u8 = 0xE7;
const OPC_WR_SL_DATA: u8 = 0xEF;
const OPC_GPOFF: u8 = 0x82;
const OPC_GPON: u8 = 0x83;

/// Slot data takes so many bytes, and says so itself.
const SLOT_DATA: u8 = 14;
const IN_USE: u8 = 0x30;
/// The status that clears a slot.
const CLEAR: u8 = 0x0B;
const CLOSE: u8 = 0x30;
const THROW: u8 = 0x10;
const CLOSED: u8 = 0x30;
const THROWN: u8 = 0x20;

/// Why a message is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    Empty,
    /// The first byte is neither an opcode nor the controller's 0.
    Opcode(u8),
    Checksum {
        is: u8,
        wants: u8,
    },
    /// Not the length this opcode has.
    Length {
        is: usize,
        wants: usize,
    },
    /// A byte that cannot stand there.
    Byte {
        at: usize,
        is: u8,
        wants: &'static str,
    },
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "it is empty"),
            Self::Opcode(is) => write!(f, "it begins with 0x{is:02x}, not with 00 or 80 to ff"),
            Self::Checksum { is, wants } => {
                write!(f, "its checksum is 0x{is:02x} and should be 0x{wants:02x}")
            }
            Self::Length { is, wants } => write!(f, "it has {is} bytes and should have {wants}"),
            Self::Byte { at, is, wants } => write!(f, "byte {at} is 0x{is:02x}, not {wants}"),
        }
    }
}

/// Nothing is known yet: slots are free, and turnouts are taken for closed.
impl Default for Railroad {
    fn default() -> Self {
        Self {
            slots: [Slot::default(); SLOTS],
            thrown: [false; TURNOUTS],
            dropped: 0,
            unsaid: 0,
            warnings: Throttle::default(),
        }
    }
}

impl Railroad {
    /// Messages that were none and went nowhere.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Does what an intact message asks for. The error says why it is none.
    fn obey(&mut self, cx: &mut Context<'_>, message: &[u8]) -> Result<Served, Wrong> {
        let relay = |cx: &mut Context<'_>| cx.broadcast(Audience::Others, message);
        let body = match check(message)? {
            // The controller's own messages mean something to throttles alone.
            None => return Ok(relay(cx)),
            Some(body) => body,
        };
        Ok(match message[0] {
            OPC_GPOFF | OPC_GPON => sized::<0>(body).map(|_| relay(cx))?,
            OPC_INPUT_REP => sized::<2>(body).map(|_| relay(cx))?,
            opcode @ (OPC_LOCO_SPD | OPC_LOCO_DIRF | OPC_LOCO_SND) => {
                let &[slot, value] = sized(body)?;
                let slot = &mut self.slots[slot_number(slot, 1)?];
                match opcode {
                    OPC_LOCO_SPD => slot.speed = value,
                    OPC_LOCO_DIRF => slot.dirf = value,
                    _ => slot.snd = value,
                }
                relay(cx)
            }
            OPC_SW_REQ => {
                let &[turnout, arg] = sized(body)?;
                let state = match arg {
                    CLOSE => CLOSED,
                    THROW => THROWN,
                    is => {
                        return Err(Wrong::Byte { at: 2, is, wants: "30 to close or 10 to throw" });
                    }
                };
                self.thrown[usize::from(turnout)] = state == THROWN;
                // Who asked learns in the same way as all others that it was done.
                cx.broadcast(Audience::Everyone, &sealed([OPC_SW_REP, turnout, state, 0]))
            }
            OPC_SW_STATE => {
                let &[turnout, zero] = sized(body)?;
                expect_zero(zero, 2)?;
                let state = if self.thrown[usize::from(turnout)] { 0 } else { CLOSED };
                cx.reply(&sealed([OPC_LONG_ACK, OPC_SW_STATE & 0x7f, state, 0]))
            }
            OPC_LOCO_ADR => match self.slot_of(*sized(body)?) {
                Some(number) => cx.reply(&self.data_of(number)),
                None => cx.reply(&sealed([OPC_LONG_ACK, OPC_LOCO_ADR & 0x7f, 0, 0])),
            },
            OPC_MOVE_SLOTS => {
                let &[from, to] = sized(body)?;
                let number = slot_number(from, 1)?;
                if to != from {
                    return Err(Wrong::Byte { at: 2, is: to, wants: "the same slot again" });
                }
                self.slots[number].in_use = true;
                cx.reply(&self.data_of(number))
            }
            OPC_WR_SL_DATA => {
                let &[length, slot, status, ref zeros @ ..] = sized::<12>(body)?;
                if length != SLOT_DATA {
                    return Err(Wrong::Byte { at: 1, is: length, wants: "0e, its length" });
                }
                let number = slot_number(slot, 2)?;
                if status != CLEAR {
                    return Err(Wrong::Byte { at: 3, is: status, wants: "0b to clear the slot" });
                }
                zeros.iter().zip(4..).try_for_each(|(&zero, at)| expect_zero(zero, at))?;
                self.slots[number] = Slot::default();
                Ok(())
            }
            _ => relay(cx),
        })
    }

    /// The slot of an engine: its own, or the first that is free. A slot that was
    /// registered without an engine is not free.
    fn slot_of(&mut self, engine: [u8; 2]) -> Option<usize> {
        let own = (1..SLOTS).find(|&number| self.slots[number].engine == Some(engine));
        let free = || (1..SLOTS).find(|&n| !self.slots[n].in_use && self.slots[n].engine.is_none());
        let number = own.or_else(free)?;
        let slot = &mut self.slots[number];
        (slot.in_use, slot.engine) = (true, Some(engine));
        Some(number)
    }

    fn data_of(&self, number: usize) -> [u8; SLOT_DATA as usize] {
        let slot = self.slots[number];
        let [high, low] = slot.engine.unwrap_or_default();
        let status = if slot.in_use { IN_USE } else { 0 };
        let number = number as u8; // below SLOTS
        let (Slot { speed, dirf, snd, .. }, length) = (slot, SLOT_DATA);
        sealed([OPC_SL_RD_DATA, length, number, status, low, speed, dirf, 0, 0, high, snd, 0, 0, 0])
    }

    fn drop_it(&mut self, cx: &Context<'_>, message: &[u8], wrong: Wrong) {
        /// Of a message, in bytes.
        const SHOWN: usize = 32;
        self.dropped += 1;
        self.unsaid += 1;
        if self.warnings.allows(cx.now()) {
            let (peer, unsaid) = (cx.peer(), self.unsaid);
            let shown = message[..message.len().min(SHOWN)].escape_ascii();
            log::warn!(
                "{peer}: message '{shown}' dropped: {wrong}; {unsaid} since the last such line"
            );
            self.unsaid = 0;
        }
    }
}

impl Service for Railroad {
    type Session = ();

    fn message(&mut self, cx: &mut Context<'_>, (): &mut (), message: &[u8]) -> Served {
        match self.obey(cx, message) {
            Ok(served) => served,
            Err(wrong) => {
                self.drop_it(cx, message, wrong);
                Ok(())
            }
        }
    }
}

/// What stands between opcode and checksum; `None` for the controller's own.
fn check(message: &[u8]) -> Result<Option<&[u8]>, Wrong> {
    let body = match *message {
        [] => return Err(Wrong::Empty),
        [0, ..] => return Ok(None),
        [opcode @ ..0x80, ..] => return Err(Wrong::Opcode(opcode)),
        [_] => return Err(Wrong::Length { is: 1, wants: 2 }),
        [_, ref body @ .., _] => body,
    };
    let rest = message.iter().fold(0xff, |rest, byte| rest ^ byte);
    if rest != 0 {
        let is = message[message.len() - 1];
        return Err(Wrong::Checksum { is, wants: is ^ rest });
    }
    // On the bus only an opcode has the high bit: a message with another one in it
    // would be two to whoever listens there.
    match body.iter().position(|byte| *byte >= 0x80) {
        Some(at) => Err(Wrong::Byte { at: at + 1, is: body[at], wants: "below 0x80" }),
        None => Ok(Some(body)),
    }
}

/// The body of a message of this opcode, which has `N` bytes.
fn sized<const N: usize>(body: &[u8]) -> Result<&[u8; N], Wrong> {
    // With opcode and checksum, as a sender counts.
    body.try_into().map_err(|_| Wrong::Length { is: body.len() + 2, wants: N + 2 })
}

fn slot_number(byte: u8, at: usize) -> Result<usize, Wrong> {
    match usize::from(byte) {
        // The bus uses slot 0 for dispatching, which this hub does not do.
        number @ 1..SLOTS => Ok(number),
        _ => Err(Wrong::Byte { at, is: byte, wants: "a slot, 01 to 7f" }),
    }
}

fn expect_zero(byte: u8, at: usize) -> Result<(), Wrong> {
    match byte {
        0 => Ok(()),
        is => Err(Wrong::Byte { at, is, wants: "zero" }),
    }
}

/// With its last byte set to the checksum.
fn sealed<const N: usize>(mut message: [u8; N]) -> [u8; N] {
    message[N - 1] = message[..N - 1].iter().fold(0xff, |sum, byte| sum ^ byte);
    message
}
