//! The average of a list of numbers, however the list is written.
//!
//! ```text
//!  "1 2 3"   "1, 2, 3"     text       ┐
//!  "[1, 2, 3]"             JSON       ├─▶ numbers ─▶ mean ─▶ "2"
//!  b"\x80\x04]\x94(K\x01…" pickle     ┘
//! ```
//!
//! Answers are one line of text, errors as well; the connection goes on in any case.

use std::fmt;
use std::str;

use serde_json::error::Category;
use serde_pickle::{DeOptions, Value};

use crate::proto::service::{Context, Served, Service};

/// Answers each message, a list of numbers, with their average. `--service average`.
///
/// A message is text (numbers with white space, a comma or both between them), a JSON
/// array, or a pickled list or tuple of Python, of any protocol. A pickle is data:
/// nothing in it is executed, and one that asks for it is refused.
///
/// The answer is the shortest decimal that reads back as the same 64-bit float, like
/// `2`, `0.1` or `1e300`; or a line that begins with `error: ` and says what is wrong.
///
/// Python's `send_string` encodes text as UTF-8. A pickle can pass it as protocol 0,
/// which is ASCII, or as `pickle.dumps(numbers).decode("latin-1")`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Average;

impl Service for Average {
    type Session = ();

    fn message(&mut self, cx: &mut Context<'_>, (): &mut (), message: &[u8]) -> Served {
        let answer = match average(message) {
            Ok(mean) => decimal(mean),
            Err(wrong) => format!("error: {wrong}"),
        };
        cx.reply(answer.as_bytes())
    }
}

/// Why there is no average. Its text never repeats what the peer sent: that may be
/// long, or anything.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Wrong {
    Empty,
    /// Counted from 1.
    NoNumber {
        item: usize,
    },
    NotFinite {
        item: usize,
    },
    NotText {
        at: usize,
    },
    Json {
        line: usize,
        column: usize,
        what: &'static str,
    },
    Opcode {
        at: usize,
        byte: u8,
        what: &'static str,
    },
    PickleEnds {
        len: usize,
    },
    Pickle,
    /// As it came and as latin-1 it lists different numbers.
    TwoReadings,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "an empty list has no average; send one number or more"),
            Self::NoNumber { item } => {
                write!(f, "item {item} is no number; send numbers like 1, 2.5, -3e8")
            }
            Self::NotFinite { item } => {
                write!(f, "item {item} is not finite; the largest number is 1.7976931348623157e308")
            }
            Self::NotText { at } => {
                write!(f, "byte {at} is not UTF-8; send text, a JSON array or a pickled list")
            }
            Self::Json { line, column, what } => {
                write!(
                    f,
                    "the JSON {what} at line {line} column {column}; send an array of numbers"
                )
            }
            Self::Opcode { at, byte, what } => {
                write!(
                    f,
                    "pickle opcode 0x{byte:02x} at byte {at} {what}; pickle a list of numbers"
                )
            }
            Self::PickleEnds { len } => write!(f, "the pickle ends early, after {len} bytes"),
            Self::Pickle => write!(f, "the pickle is damaged; pickle a list of numbers"),
            Self::TwoReadings => {
                write!(f, "the pickle can be read in two ways; use protocol 2 or above")
            }
        }
    }
}

/// The average of what `message` lists.
fn average(message: &[u8]) -> Result<f64, Wrong> {
    let numbers = match message.trim_ascii_start() {
        [b'[', ..] => from_json(message)?,
        // The second is the first as UTF-8 of latin-1: decode("latin-1") in Python.
        [0x80 | b'(' | b')' | b']', ..] | [0xc2, 0x80, ..] => from_pickle(message)?,
        _ => from_text(message)?,
    };
    if let Some(index) = numbers.iter().position(|number| !number.is_finite()) {
        return Err(Wrong::NotFinite { item: index + 1 });
    }
    mean(&numbers).ok_or(Wrong::Empty)
}

fn from_text(message: &[u8]) -> Result<Vec<f64>, Wrong> {
    let text = str::from_utf8(message).map_err(|e| Wrong::NotText { at: e.valid_up_to() })?;
    let mut numbers = Vec::new();
    if text.trim().is_empty() {
        return Ok(numbers);
    }
    for piece in text.split(',') {
        let before = numbers.len();
        let wrong = |numbers: &[f64]| Wrong::NoNumber { item: numbers.len() + 1 };
        for word in piece.split_whitespace() {
            numbers.push(word.parse().map_err(|_| wrong(&numbers))?);
        }
        if numbers.len() == before {
            return Err(wrong(&numbers));
        }
    }
    Ok(numbers)
}

fn from_json(message: &[u8]) -> Result<Vec<f64>, Wrong> {
    serde_json::from_slice(message).map_err(|error| Wrong::Json {
        line: error.line(),
        column: error.column(),
        what: match error.classify() {
            Category::Data => "has something else than a number",
            Category::Eof => "ends early",
            Category::Syntax | Category::Io => "is wrong",
        },
    })
}

fn from_pickle(message: &[u8]) -> Result<Vec<f64>, Wrong> {
    let plain = from_pickle_bytes(message);
    // It may have been text on its way. Protocols above 1 show it: they begin with
    // 0x80, which is no UTF-8. Protocol 1 does not, and now and then both readings are
    // lists of numbers: then an error is better than the average of the other one.
    let Some(pickle) = from_latin_1(message) else { return plain };
    match (plain, from_pickle_bytes(&pickle)) {
        (Ok(plain), Ok(text)) if plain != text => Err(Wrong::TwoReadings),
        (Ok(numbers), _) | (_, Ok(numbers)) => Ok(numbers),
        (Err(_), Err(wrong)) => Err(wrong),
    }
}

fn from_pickle_bytes(pickle: &[u8]) -> Result<Vec<f64>, Wrong> {
    check_opcodes(pickle)?;
    let items = match serde_pickle::value_from_slice(pickle, DeOptions::new()) {
        Ok(Value::List(items) | Value::Tuple(items)) => items,
        Ok(_) | Err(_) => return Err(Wrong::Pickle),
    };
    let number = |(index, item)| match item {
        Value::I64(number) => Ok(number as f64),
        Value::F64(number) => Ok(number),
        // Rounds right, and is infinite where the float would be.
        Value::Int(number) => number.to_string().parse().map_err(|_| Wrong::Pickle),
        _ => Err(Wrong::NoNumber { item: index + 1 }),
    };
    items.into_iter().enumerate().map(number).collect()
}

/// The bytes that were decoded as latin-1 before they were sent as UTF-8; `None` if
/// they were not.
fn from_latin_1(message: &[u8]) -> Option<Vec<u8>> {
    let text = str::from_utf8(message).ok().filter(|text| !text.is_ascii())?;
    text.chars().map(|char| u8::try_from(u32::from(char)).ok()).collect()
}

/// Lets a flat list of numbers pass and nothing else.
///
/// The pickle crate executes nothing, but trusts its input with memory: it copies what
/// is duplicated (60 bytes fill any memory), reserves 4 KiB for each mark, follows
/// nested tuples by recursion until the stack ends, and reads decimals in quadratic
/// time. A list of numbers needs none of that: one container, one mark at a time, one
/// entry in the memo that nothing asks for, short numbers.
fn check_opcodes(pickle: &[u8]) -> Result<(), Wrong> {
    /// Of a number in decimal, in bytes. From 310 digits on it is infinite.
    const MAX_LINE: usize = 400;
    const TOO_LONG: &str = "has a number that is too long";
    let ends = Wrong::PickleEnds { len: pickle.len() };
    let (mut at, mut marked, mut containers, mut memos) = (0, false, 0, 0);
    while let Some(&byte) = pickle.get(at) {
        let refuse = |what| Err(Wrong::Opcode { at, byte, what });
        let rest = &pickle[at + 1..];
        let argument = match byte {
            b'.' if rest.is_empty() => return Ok(()),
            b'.' => return refuse("ends it, with bytes behind"),
            // MARK, and what takes all down to it: APPENDS, LIST, TUPLE.
            b'(' if marked => return refuse("nests"),
            b'(' | b'e' | b'l' | b't' => {
                marked = byte == b'(';
                containers += usize::from(matches!(byte, b'l' | b't'));
                0
            }
            // EMPTY_LIST, EMPTY_TUPLE, TUPLE1, TUPLE2, TUPLE3
            b']' | b')' | 0x85..=0x87 => {
                containers += 1;
                0
            }
            // MEMOIZE, BINPUT, LONG_BINPUT, PUT
            0x94 | b'q' | b'r' | b'p' => {
                memos += 1;
                match byte {
                    0x94 => 0,
                    b'q' => 1,
                    b'r' => 4,
                    _ => line(rest).ok_or(ends.clone())?,
                }
            }
            b'a' => 0,                                                   // APPEND
            0x80 | b'K' => 1,                                            // PROTO, BININT1
            b'M' => 2,                                                   // BININT2
            b'J' => 4,                                                   // BININT
            0x95 | b'G' => 8,                                            // FRAME, BINFLOAT
            b'I' | b'L' | b'F' => line(rest).ok_or(ends.clone())?,       // INT, LONG, FLOAT
            0x8a => 1 + usize::from(*rest.first().ok_or(ends.clone())?), // LONG1
            // LONG4. Python has it for what LONG1 has no room for: infinite as a float.
            0x8b => return refuse(TOO_LONG),
            _ => return refuse("is not for numbers"),
        };
        if argument > MAX_LINE {
            return refuse(TOO_LONG);
        }
        if containers > 1 || memos > 1 {
            return refuse("nests or repeats a list");
        }
        at += 1 + argument;
    }
    Err(ends)
}

/// Bytes of a line with its end.
fn line(bytes: &[u8]) -> Option<usize> {
    memchr::memchr(b'\n', bytes).map(|end| end + 1)
}

/// The mean, as if summed with twice the digits; `None` of nothing.
fn mean(numbers: &[f64]) -> Option<f64> {
    let count = numbers.len() as f64;
    let mean = |scale: f64| {
        let (mut high, mut low) = (0.0, 0.0);
        for number in numbers {
            let number = number * scale;
            let sum = high + number;
            // What rounding took from the sum (Knuth's TwoSum).
            let part = sum - high;
            low += (high - (sum - part)) + (number - part);
            high = sum;
        }
        let quotient = high / count;
        let rest = (-quotient).mul_add(count, high) + low;
        (quotient + rest / count) / scale
    };
    // Only sums near the end of the range overflow. As 2^-64 is a power of two, what is
    // lost then are digits of numbers too small to count.
    let first = mean(1.0);
    let mean = if first.is_finite() { first } else { mean(2.0_f64.powi(-64)) };
    // Zero has no sign here, also where a small negative mean was rounded to it.
    (!numbers.is_empty()).then_some(mean + 0.0)
}

/// The shortest decimal that reads back the same, with an exponent where it would
/// have very many zeros, as in JavaScript.
fn decimal(number: f64) -> String {
    match number.abs() {
        0.0 | 1e-7..1e21 => number.to_string(),
        _ => format!("{number:e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(message: &[u8]) -> String {
        average(message).map_or_else(|wrong| wrong.to_string(), decimal)
    }

    #[test]
    fn lists_in_any_notation_have_these_averages() {
        #[rustfmt::skip]
        let cases: &[(&str, &[u8], &str)] = &[
            ("text",                    b"1 2 3",                       "2"),
            ("with commas",             b"1, 2,3 ,4",                   "2.5"),
            ("with lines",              b"1\r\n2\n\t4\n",               "2.3333333333333335"),
            ("one number",              b" -7.25 ",                     "-7.25"),
            ("signs and exponents",     b"+1e3 -1E3 .5 5.",             "1.375"),
            ("a sum that overflows",    b"1.7e308 1.7e308",             "1.7e308"),
            ("one that seems to",       b"1.7e308,1.7e308,-1.7e308",    "5.666666666666667e307"),
            ("equal values",            b"0.1 0.1 0.1",                 "0.1"),
            ("great and small",         b"1e16 1 -1e16 1",              "0.5"),
            ("the smallest",            b"5e-324",                      "5e-324"),
            ("a plain decimal",         b"100000 300000",               "200000"),
            ("negative zero",           b"-0 -0.0",                     "0"),
            ("rounded to zero",         b"0 -5e-324",                   "0"),
            ("JSON",                    b"[1, 2.5, 3e0]",               "2.1666666666666665"),
            ("JSON with space",         b" [\n1]\n",                    "1"),
            ("JSON, 2^64",              b"[18446744073709551616]",      "18446744073709552000"),
            ("protocol 0",              b"(lp0\nI1\naF2.5\naI-300\naI70000\naL1099511627776L\na.", "219902339495.9"),
            ("protocol 1",              b"]q\0(K\x01G@\x04\0\0\0\0\0\0J\xd4\xfe\xff\xffJp\x11\x01\0L1099511627776L\ne.", "219902339495.9"),
            ("protocol 2",              b"\x80\x02]q\0(J\xff\xff\xff\xff\x8a\x06\0\0\0\0\0\xffe.", "-549755813888.5"),
            ("protocol 4",              b"\x80\x04\x95\x0b\0\0\0\0\0\0\0]\x94(K\x01K\x02K\x03e.", "2"),
            ("protocol 5, floats",      b"\x80\x05\x95\x17\0\0\0\0\0\0\0]\x94(G?\xe0\0\0\0\0\0\0G?\xf8\0\0\0\0\0\0e.", "1"),
            ("a list of one",           b"\x80\x04]\x94K\x07a.",        "7"),
            ("great integers",          b"\x80\x03]q\0(\x8a\t\0\0\0\0\0\0\0\0@\x8a\t\0\0\0\0\0\0\0\0@e.", "1.1805916207174113e21"),
            ("a tuple, protocol 0",     b"(I1\nI2\nI4\ntp0\n.",         "2.3333333333333335"),
            ("a tuple of one",          b"\x80\x02K\x07\x85q\0.",       "7"),
            ("a tuple of four",         b"\x80\x04\x95\x0c\0\0\0\0\0\0\0(K\x01K\x02K\x03K\x04t\x94.", "2.5"),
            ("in batches",              b"\x80\x03]q\0(K\x01K\x02e(K\x03e.", "2"),
            ("protocol 1 so",           b"]q\0(M\xc3\xa8\x03M\xc3\xbf\xc3\xbfe.", "33267.5"),
            ("as UTF-8 of latin-1",     b"\xc2\x80\x04]\xc2\x94(M\xc3\xa8\x03M\xc3\xbf\xc3\xbfe.", "33267.5"),
        ];
        for (name, message, expected) in cases {
            assert_eq!(answer(message), *expected, "{name}");
        }
    }

    #[test]
    fn what_is_no_list_of_numbers_is_told_what_is_wrong_and_nothing_it_sent() {
        #[rustfmt::skip]
        let cases: &[(&str, &[u8], &str)] = &[
            ("nothing",             b"",                        "an empty list"),
            ("only space",          b" \n",                     "an empty list"),
            ("an empty array",      b"[]",                      "an empty list"),
            ("an empty pickle",     b"\x80\x04]\x94.",          "an empty list"),
            ("an empty tuple",      b").",                      "an empty list"),
            ("a word",              b"1 two 3",                 "item 2 is no number"),
            ("no number",           b"1,,3",                    "item 2 is no number"),
            ("none at the end",     b"1,2,",                    "item 3 is no number"),
            ("infinity",            b"1 inf",                   "item 2 is not finite"),
            ("too great",           b"1e400",                   "item 1 is not finite"),
            ("not a number",        b"NaN",                     "item 1 is not finite"),
            ("no text",             b"1 \xff\xfe",              "byte 2 is not UTF-8"),
            ("a string in JSON",    b"[1, \"\x1b[2J\"]",        "the JSON"),
            ("null",                b"[null]",                  "the JSON has something else than a number at line 1 column 5"),
            ("a nested array",      b"[[1]]",                   "the JSON has something else"),
            ("an unfinished array", b"[1, 2",                   "the JSON ends early"),
            ("two arrays",          b"[1] [2]",                 "the JSON is wrong at line 1 column 5"),
            ("too great in JSON",   b"[1e400]",                 "the JSON is wrong"),
            ("an object",           b"{\"a\": 1}",              "item 1 is no number"),
            ("True, protocol 0",    b"(lp0\nI01\na.",           "item 1 is no number"),
            ("True",                b"\x80\x04]\x94\x88a.",     "opcode 0x88 at byte 4 is not for numbers"),
            ("a string",            b"\x80\x04]\x94\x8c\x01aa.", "opcode 0x8c at byte 4 is not for numbers"),
            ("infinity, pickled",   b"]q\0G\x7f\xf0\0\0\0\0\0\0a.", "item 1 is not finite"),
            ("2^2040, pickled",     b"\x80\x02]q\0\x8b\0\x01\0\0", "opcode 0x8b at byte 5 has a number that is too long"),
            ("a nested list",       b"\x80\x02]q\0]q\x01a.",    "at byte 5 nests or repeats a list"),
            ("a call",              b"cos\nsystem\n(S'true'\ntR.", "item 1 is no number"),
            ("a call, protocol 4",  b"\x80\x04\x8c\x02os\x94.", "opcode 0x8c at byte 2 is not for numbers"),
            ("cut off",             b"\x80\x04]\x94(K\x01K",    "the pickle ends early, after 8 bytes"),
            ("cut off in a line",   b"(lp0\nI1",                "the pickle ends early"),
            ("bytes behind it",     b"]q\0K\x01a.]",            "opcode 0x2e at byte 6 ends it, with bytes behind"),
            ("a number alone",      b"\x80\x04K\x01.",          "the pickle is damaged"),
            ("two readings",        b"(G\xc3\x80z^|L,\xc2\x80\x0cG\xc3\x80z^|L,\xc2\x80\x0cG\xc3\x80z^|L,\xc2\x80\x0cG\xc3\x80z^|L,\xc2\x80\x0cG\xc3\x80z^|L,\xc2\x80\x0cG\xc3\x80z^|L,\xc2\x80\x0cG\xc3\x80z^|L,\xc2\x80\x0cG\xc3\x80z^|L,\xc2\x80\x0cG\xc3\x80z^|L,\xc2\x80\x0ctq\0.", "use protocol 2 or above"),
            ("nothing on its stack", b"\x80\x04.",              "the pickle is damaged"),
        ];
        for (name, message, expected) in cases {
            let said = answer(message);
            assert!(said.contains(expected), "{name}: {said}");
            let printable = said.bytes().all(|byte| (b' '..=b'~').contains(&byte));
            assert!(printable && said.len() < 120, "{name}: {said}");
        }
    }

    /// Each of these ends a process that hands it to the pickle crate as it is, or
    /// keeps it busy for minutes.
    #[test]
    fn a_pickle_made_to_do_harm_is_refused_before_it_costs_anything() {
        let doubled = [&b"\x80\x02]"[..], &b"2a".repeat(60), b"."].concat();
        let recalled = [&b"\x80\x02]q\0"[..], &b"h\0a".repeat(60), b"."].concat();
        let kept = [&b"\x80\x02]"[..], &b"q\0".repeat(100_000), b"."].concat();
        let marks = [&b"\x80\x02"[..], &b"(".repeat(1 << 20), b"."].concat();
        let nested = [&b"\x80\x02)"[..], &b"\x85".repeat(1 << 20), b"."].concat();
        let digits = [&b"(lL"[..], &b"9".repeat(1 << 20), b"L\na."].concat();
        let promised = b"\x80\x04]\x8b\xff\xff\xff\x7f\x01.".to_vec();
        let announced = b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.".to_vec();
        for (name, pickle) in [
            ("doubled", doubled),
            ("recalled", recalled),
            ("kept", kept),
            ("marks", marks),
            ("nested", nested),
            ("digits", digits),
            ("promised", promised),
            ("announced", announced),
        ] {
            let info = allocation_counter::measure(|| {
                let refused = matches!(average(&pickle), Err(Wrong::Opcode { .. }));
                assert!(refused, "{name}: {}", answer(&pickle));
            });
            assert_eq!(info.bytes_total, 0, "{name}");
        }
    }

    /// A failure prints its seed.
    #[test]
    fn a_list_has_the_same_average_in_all_notations_and_any_bytes_have_an_answer() {
        for seed in 0..3_000_u64 {
            let mut state = seed;
            let mut random = || {
                // SplitMix64
                state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let mut z = state;
                z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                z ^ (z >> 31)
            };
            let count = random() % 9 + 1;
            let number = |bits: u64| f64::from_bits(bits).clamp(f64::MIN, f64::MAX);
            let numbers: Vec<f64> = (0..count)
                .map(|_| number(random()))
                .map(|number| if number.is_nan() { 1.0 } else { number })
                .collect();
            let words: Vec<String> = numbers.iter().map(|n| format!("{n:e}")).collect();
            let bytes = |n: &f64| [&b"G"[..], &n.to_be_bytes()].concat();
            let binary: Vec<u8> = numbers.iter().flat_map(bytes).collect();
            let pickle = [b"\x80\x04]\x94(", &binary[..], b"e."].concat();
            let text = answer(words.join(" ").as_bytes());
            assert_eq!(answer(format!("[{}]", words.join(",")).as_bytes()), text, "seed {seed}");
            assert_eq!(answer(&pickle), text, "seed {seed}");
            let latin: String = pickle.iter().map(|&byte| char::from(byte)).collect();
            assert_eq!(answer(latin.as_bytes()), text, "seed {seed}");
            let back: f64 = text.parse().unwrap_or_else(|e| panic!("seed {seed}: {text}: {e}"));
            let least = numbers.iter().copied().fold(f64::INFINITY, f64::min);
            let most = numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            assert!((least..=most).contains(&back), "seed {seed}: {back} of {numbers:?}");

            // Any byte may be any other.
            let mut broken = pickle;
            for _ in 0..random() % 4 {
                let at = random() as usize % broken.len();
                broken[at] = random() as u8;
            }
            assert!(answer(&broken).len() < 400, "seed {seed}");
        }
    }
}
