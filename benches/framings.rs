//! What a framing costs, in nanoseconds per message.
//!
//! ```text
//!  payload ─▶ encode ─▶ 64 KiB of whole frames ─▶ Framing::each ─▶ messages counted
//! ```
//!
//! ```text
//!                             16 B                 64 B                256 B               4096 B
//! decode          ns  GB/s x lines     ns  GB/s x lines     ns  GB/s x lines     ns  GB/s x lines
//! memcpy         1.6   9.8    0.79    2.5    26    0.44    2.9    89    0.44   40.6   101    1.44
//! memchr         4.2   3.8    2.04    4.9    13    0.88    5.8    44    0.88   27.4   150    0.98
//! Lines          2.0   7.9    0.98    5.8    11    1.03    6.6    39    0.99   27.7   148    0.99
//! LengthField    2.6   6.2    1.26    2.6    25    0.45    2.7    95    0.41    3.9  1057    0.14
//! lines          2.1   7.8    1.00    5.7    11    1.00    6.6    39    1.00   28.1   146    1.00
//! lines:lf       2.0   7.9    0.99    5.7    11    1.00    6.6    39    1.00   28.6   143    1.02
//! lines:crlf     2.2   7.4    1.06    5.7    11    1.01    6.6    39    1.00   27.7   148    0.99
//! delim:BYTES   13.2   1.2    6.41   13.5   4.7    2.39   14.5    18    2.20   34.6   118    1.23
//! nul            9.4   1.7    4.56   10.2   6.3    1.79   10.7    24    1.62   30.9   133    1.11
//! stx-etx        9.5   1.7    4.57   10.1   6.3    1.79   11.0    23    1.63   30.8   133    1.09
//! mllp           9.6   1.7    4.66   10.1   6.4    1.78   10.8    24    1.64   31.3   131    1.11
//! fixed:N        0.3    58    0.14    0.3   213    0.05    0.4   661    0.06    0.6  6724    0.02
//! u8             2.2   7.3    1.07    2.3    28    0.40      -     -       -      -     -       -
//! u16be          2.7   5.9    1.32    2.8    23    0.49    2.9    90    0.43    4.7   869    0.17
//! u16le          2.3   6.8    1.14    2.4    26    0.43    2.5   102    0.38    4.2   986    0.15
//! u24be          3.4   4.7    1.66    3.5    18    0.62    3.6    72    0.54    4.6   886    0.17
//! u24le          3.6   4.4    1.76    3.7    17    0.66    3.8    68    0.57    6.6   623    0.23
//! u32be          2.5   6.3    1.23    2.7    24    0.47    2.7    95    0.41    3.1  1305    0.11
//! u32le          2.7   5.9    1.32    2.9    22    0.50    2.9    88    0.44    3.4  1204    0.12
//! u64be          2.6   6.2    1.24    2.7    24    0.47    2.7    96    0.41    3.2  1299    0.11
//! u64le          2.8   5.8    1.34    2.8    23    0.50    2.9    89    0.43    3.4  1207    0.12
//! base128        2.6   6.2    1.24    2.6    24    0.47    2.6    97    0.40    2.9  1422    0.10
//! varint         2.0   8.1    0.95    2.0    31    0.36    2.6    99    0.39    4.4   929    0.16
//! ascii:N       11.1   1.4    5.40   11.4   5.6    2.00   11.4    22    1.73   12.6   326    0.45
//! ascii:N:space    7.2   2.2    3.54    7.5   8.5    1.32    8.3    31    1.25   10.1   406    0.36
//! netstring      5.4   2.9    2.65    5.5    12    0.98    6.7    38    1.01    9.0   454    0.32
//! syslog         5.4   2.9    2.65    5.6    11    0.98    6.7    38    1.01    9.1   451    0.32
//! slip          10.6   1.5    5.14   11.9   5.4    2.12   13.1    19    1.99   47.6    86    1.70
//! cobs           9.6   1.7    4.69   11.4   5.6    2.00   15.7    16    2.36  110.3    37    3.94
//! modbus         2.6   6.3    1.24    2.6    24    0.46    2.7    96    0.40      -     -       -
//! http             -     -       -      -     -       -      -     -       -      -     -       -
//! raw            0.9    17    0.45    0.9    68    0.17    1.0   256    0.15    1.1  3598    0.04
//!
//! encode          ns  GB/s x lines     ns  GB/s x lines     ns  GB/s x lines     ns  GB/s x lines
//! memcpy         1.4    11    0.43    1.5    44    0.41    4.2    61    0.57   41.6    98    0.75
//! memchr         1.6   9.9    0.50    1.9    33    0.54    5.9    43    0.79   40.1   102    0.72
//! Lines          2.6   6.2    0.79    3.0    21    0.82    6.7    38    0.91   61.4    67    1.11
//! LengthField    2.8   5.8    0.86    2.6    24    0.73    4.9    53    0.64   39.7   103    0.72
//! lines          3.2   5.0    1.00    3.6    18    1.00    7.5    34    1.00   55.2    74    1.00
//! lines:lf       3.2   5.0    1.00    3.6    18    0.98    7.4    34    1.00   62.0    66    1.11
//! lines:crlf     3.3   4.9    1.01    3.8    17    1.03    7.5    34    1.00   56.1    73    1.01
//! delim:BYTES   16.0   1.0    4.94   17.8   3.6    4.92   19.0    13    2.54   75.0    55    1.36
//! nul            7.8   2.0    2.45    9.5   6.8    2.64   12.1    21    1.61   72.9    56    1.31
//! stx-etx        7.4   2.2    2.28    9.6   6.7    2.65   12.3    21    1.63   73.5    56    1.33
//! mllp           9.3   1.7    2.91   10.4   6.2    2.87   12.5    21    1.67   74.2    55    1.34
//! fixed:N        1.9   8.2    0.61    1.8    36    0.50    3.4    76    0.45   40.5   101    0.73
//! u8             4.5   3.6    1.38    4.6    14    1.28      -     -       -      -     -       -
//! u16be          3.7   4.4    1.13    3.7    18    1.01    4.6    55    0.61   40.9   100    0.74
//! u16le          3.8   4.2    1.18    3.6    18    1.01    4.7    55    0.62   41.9    98    0.76
//! u24be          4.6   3.5    1.39    4.8    13    1.32    5.7    45    0.75   43.5    94    0.78
//! u24le          4.7   3.4    1.43    4.6    14    1.28    5.6    46    0.76   44.2    93    0.79
//! u32be          3.6   4.5    1.09    3.7    17    1.03    4.8    53    0.65   41.0   100    0.74
//! u32le          3.9   4.1    1.19    3.8    17    1.06    4.9    52    0.67   40.3   102    0.73
//! u64be          4.6   3.5    1.39    4.6    14    1.27    5.5    47    0.73   41.9    98    0.75
//! u64le          4.7   3.4    1.42    4.8    13    1.32    5.4    47    0.73   41.0   100    0.74
//! base128        2.8   5.7    0.87    3.0    21    0.84    4.2    60    0.58   40.4   101    0.73
//! varint         3.1   5.2    0.94    3.0    21    0.83    4.5    57    0.60   41.2    99    0.75
//! ascii:N        7.8   2.0    2.43    8.2   7.8    2.28   10.0    26    1.34   44.8    91    0.81
//! ascii:N:space    8.5   1.9    2.63    9.3   6.9    2.61    9.9    26    1.32   44.5    92    0.81
//! netstring      7.2   2.2    2.23    7.7   8.3    2.12    8.5    30    1.13   45.5    90    0.83
//! syslog         7.1   2.2    2.21    7.4   8.6    2.06    8.2    31    1.10   44.4    92    0.80
//! slip           5.9   2.7    1.78    6.4  10.0    1.78    7.6    34    1.03   70.7    58    1.28
//! cobs           6.1   2.6    1.87    7.2   8.9    2.01   12.2    21    1.65  116.4    35    2.12
//! modbus         2.1   7.7    0.64    2.2    29    0.62    5.2    49    0.69      -     -       -
//! http             -     -       -      -     -       -      -     -       -      -     -       -
//! raw            1.7   9.5    0.53    2.4    27    0.67    3.6    72    0.48   52.3    78    0.95
//!
//! both            ns  GB/s x lines     ns  GB/s x lines     ns  GB/s x lines     ns  GB/s x lines
//! memcpy         1.4    11    0.31    1.6    40    0.23    2.9    89    0.28   40.4   101    0.52
//! memchr         4.9   3.2    1.09    5.8    11    0.84    7.0    36    0.69   64.6    63    0.82
//! Lines          4.5   3.6    0.98    7.0   9.2    1.02   10.9    23    1.07   64.6    63    0.83
//! LengthField    8.5   1.9    1.90    9.4   6.8    1.36   10.5    24    1.02   44.5    92    0.57
//! lines          4.5   3.6    1.00    6.9   9.3    1.00   10.2    25    1.00   78.2    52    1.00
//! lines:lf       4.7   3.4    1.05    6.9   9.3    1.00   10.2    25    1.01   84.8    48    1.09
//! lines:crlf     4.7   3.4    1.03    7.0   9.1    1.02   10.4    25    1.03   62.4    66    0.80
//! delim:BYTES   27.4   0.6    6.11   29.8   2.1    4.34   31.7   8.1    3.11  101.3    40    1.30
//! nul           17.7   0.9    3.96   20.5   3.1    2.96   23.2    11    2.28   97.8    42    1.25
//! stx-etx       17.2   0.9    3.85   20.4   3.1    2.96   22.6    11    2.23   99.6    41    1.28
//! mllp          19.1   0.8    4.19   21.1   3.0    3.08   23.0    11    2.25  101.2    40    1.28
//! fixed:N        5.0   3.2    1.12    5.5    12    0.81    6.2    41    0.61   46.0    89    0.59
//! u8             9.2   1.7    2.05    9.8   6.6    1.42      -     -       -      -     -       -
//! u16be          8.6   1.9    1.91    9.1   7.1    1.32   10.5    24    1.03   51.2    80    0.66
//! u16le          8.3   1.9    1.87    8.9   7.2    1.31   10.2    25    1.00   51.7    79    0.66
//! u24be         10.3   1.5    2.30   11.0   5.8    1.60   12.5    21    1.23   52.2    78    0.67
//! u24le         10.3   1.6    2.29   11.0   5.8    1.61   12.5    20    1.23   45.0    91    0.58
//! u32be          8.4   1.9    1.87    9.0   7.1    1.32   10.5    24    1.04   47.4    86    0.61
//! u32le          8.6   1.9    1.90    9.9   6.5    1.43   10.4    25    1.02   44.1    93    0.56
//! u64be          9.3   1.7    2.09   10.0   6.4    1.46   11.5    22    1.13   49.4    83    0.63
//! u64le          9.3   1.7    2.05    9.8   6.5    1.43   11.1    23    1.10   44.5    92    0.57
//! base128        7.5   2.1    1.65    7.9   8.1    1.16    9.1    28    0.90   47.5    86    0.61
//! varint         7.3   2.2    1.61    7.6   8.5    1.10   10.0    26    0.98   43.7    94    0.56
//! ascii:N       20.7   0.8    4.64   21.7   2.9    3.16   24.7    10    2.41   63.6    64    0.82
//! ascii:N:space   17.1   0.9    3.82   17.5   3.6    2.56   19.9    13    1.96   55.3    74    0.71
//! netstring     13.4   1.2    2.98   13.9   4.6    2.03   16.8    15    1.64   57.5    71    0.74
//! syslog        13.2   1.2    2.93   13.7   4.7    2.00   16.5    15    1.62   52.7    78    0.67
//! slip          18.0   0.9    3.99   20.3   3.2    2.94   24.0    11    2.35  132.7    31    1.70
//! cobs          17.2   0.9    3.78   19.9   3.2    2.89   30.7   8.3    3.02  254.8    16    3.26
//! modbus         6.7   2.4    1.47    7.2   8.8    1.05    8.6    30    0.85      -     -       -
//! http             -     -       -      -     -       -      -     -       -      -     -       -
//! raw            5.3   3.0    1.19    6.0    11    0.86    6.8    38    0.67   58.1    71    0.75
//!
//! medians of 11 rounds
//! ```
//!
//! The rows: two base lines, two types, and every word of `AnyFraming::WORDS` by way
//! of `AnyFraming`, but for those whose messages have a grammar: `boundaries` has them.
//! `memcpy` copies each message and does nothing else. `memchr` is the bare loop over
//! lines: search, drop a CR, count; back, copy and push LF. `Lines` and `LengthField` are
//! `lines` and `u32be` without the enum, to show what it costs. `both` is all that the loop
//! does between a read and a write: a connection, its limits and counters, a service, the
//! reply.
//! `raw` gets a maximum as long as the message, or it would see only one.
//!
//! The columns: `ns` for one message; `GB/s` of messages, frames not counted (a length
//! is read without looking at what follows it, so there the rate says nothing but how
//! long the message was); `x lines`, the time as a multiple of what `lines` takes in
//! the same round. Compare those: noise of the machine is shared by both. All are
//! medians. `-` stands where a framing cannot say a message of that length.
//!
//! Not measured: messages cut by reads; lengths that vary, so branches are predicted
//! better than in real traffic; memory that is not in the cache; services and system
//! calls, which `round_trips` has.
//!
//! ```console
//! $ cargo bench --bench framings              # 13 s and the build
//! $ cargo bench --bench framings -- --quick   # 1 s, rough
//! ```

use std::hint::black_box;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use memchr::memchr;
use oneloop::proto::buffer::Pool;
use oneloop::proto::conn::{Conn, Life, OutputLimits, Shared};
use oneloop::proto::post::Post;
use oneloop::proto::service::CallInfo;
use oneloop::proto::tick::Tick;
use oneloop::{
    AnyFraming, ConnId, Context, EncodeError, Endian, Framing, LengthField, Lines, PeerAddr,
    Served, Service, Traffic,
};

/// Lengths of messages, in bytes.
const SIZES: [usize; 4] = [16, 64, 256, 4096];
/// Bytes of frames that are decoded or encoded in one pass: one read of the loop.
const WIRE: usize = 64 << 10;
/// Passes between two looks at the clock: many enough that looking costs nothing.
const PASSES_PER_LOOK: u32 = 8;
/// The row that the others are compared with.
const REFERENCE: &str = "lines";

fn main() {
    let plan = Plan::from_args();
    let columns: Vec<_> = SIZES.iter().map(|&size| measure(size, &plan)).collect();
    println!("{:<11}{}", "", SIZES.map(|size| format!("{:>21}", format!("{size} B"))).concat());
    print_block("decode", &columns, |row| &row.decode);
    print_block("encode", &columns, |row| &row.encode);
    print_block("both", &columns, |row| &row.echo);
    println!("medians of {} rounds", plan.rounds);
}

/// How long to measure.
struct Plan {
    rounds: usize,
    /// Time for one framing, one way, in one round.
    sample: Duration,
}

impl Plan {
    /// `cargo bench` passes `--bench` and measures; `cargo test --benches` does
    /// not, and only wants to see that it runs.
    fn from_args() -> Self {
        let (mut bench, mut quick) = (false, false);
        for arg in std::env::args().skip(1) {
            match &*arg {
                "--bench" => bench = true,
                "--quick" => quick = true,
                _ => {
                    eprintln!("unknown argument '{arg}'; allowed: --quick");
                    std::process::exit(2);
                }
            }
        }
        if quick || !bench {
            Self { rounds: 3, sample: Duration::from_millis(1) }
        } else {
            Self { rounds: 11, sample: Duration::from_millis(10) }
        }
    }
}

/// Something that turns messages into bytes and back.
trait Contender {
    /// Appends a frame for every `size` bytes of `payload`.
    fn encode(&self, payload: &[u8], size: usize, out: &mut Vec<u8>) -> Result<(), EncodeError>;

    /// Takes all frames of `wire`.
    fn decode(&mut self, wire: &mut [u8]) -> Seen;

    /// Takes all frames of `wire` and sends each message back, into `out`.
    fn echo(&mut self, wire: &mut [u8], out: &mut Vec<u8>) -> Seen;
}

/// What decoding has found: proof that it was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    messages: usize,
    /// Bytes of those messages.
    bytes: usize,
}

impl Seen {
    fn note(&mut self, message: &[u8]) {
        self.messages += 1;
        self.bytes += message.len();
    }
}

/// A framing of the library, called as the loop calls it.
struct Framed<F> {
    framing: F,
    pool: Pool,
    post: Post,
}

impl<F: Framing> Framed<F> {
    fn new(framing: F) -> Self {
        Self { framing, pool: Pool::new(), post: Post::new() }
    }
}

impl<F: Framing> Contender for Framed<F> {
    fn encode(&self, payload: &[u8], size: usize, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        payload.chunks_exact(size).try_for_each(|message| self.framing.encode(message, out))
    }

    fn decode(&mut self, wire: &mut [u8]) -> Seen {
        let mut seen = Seen::default();
        let rest = self.framing.each(&mut F::State::default(), wire, false, |message| {
            seen.note(message.expect("our own frames are not skipped"));
            ControlFlow::Continue(())
        });
        assert_eq!(rest.map(|rest| rest.used), Ok(wire.len()));
        seen
    }

    /// All that the loop does between a read and a write.
    fn echo(&mut self, wire: &mut [u8], out: &mut Vec<u8>) -> Seen {
        let mut service = Counted::default();
        let plenty = 16 * WIRE;
        let mut shared = Shared {
            framing: &self.framing,
            service: &mut service,
            pool: &mut self.pool,
            replies: out,
            post: &mut self.post,
            posted: 0,
            traffic: &mut Traffic::default(),
            info: CallInfo {
                id: ConnId::new(0, 0, 1),
                peer: PeerAddr::Unix(1),
                now: Duration::ZERO,
                connections: 1,
                output: OutputLimits { high: plenty, low: plenty, max: plenty },
                connect_error: None,
            },
            tick: Tick::default(),
            http_courtesy: false,
            allowance: usize::MAX,
            refused: None,
            reset: false,
        };
        let mut conn = Conn::<F::State, ()>::new();
        conn.received(wire, 0, &mut shared);
        assert_eq!((conn.life(), self.pool.buffers()), (Life::Open, 0));
        service.seen
    }
}

/// Sends every message back, and counts it.
#[derive(Default)]
struct Counted {
    seen: Seen,
}

impl Service for Counted {
    type Session = ();

    #[inline(always)]
    fn message(&mut self, cx: &mut Context<'_>, (): &mut (), message: &[u8]) -> Served {
        self.seen.note(message);
        cx.reply(message)
    }
}

/// The least that anyone does to read lines: no limit, no state, no errors.
struct BareLines;

impl Contender for BareLines {
    fn encode(&self, payload: &[u8], size: usize, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        for message in payload.chunks_exact(size) {
            out.extend_from_slice(message);
            out.push(b'\n');
        }
        Ok(())
    }

    fn decode(&mut self, wire: &mut [u8]) -> Seen {
        let mut seen = Seen::default();
        let mut rest = &*wire;
        while let Some(at) = memchr(b'\n', rest) {
            let line = &rest[..at];
            seen.note(line.strip_suffix(b"\r").unwrap_or(line));
            rest = &rest[at + 1..];
        }
        seen
    }

    fn echo(&mut self, wire: &mut [u8], out: &mut Vec<u8>) -> Seen {
        let mut seen = Seen::default();
        let mut rest = &*wire;
        while let Some(at) = memchr(b'\n', rest) {
            let line = &rest[..at];
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            seen.note(line);
            out.extend_from_slice(line);
            out.push(b'\n');
            rest = &rest[at + 1..];
        }
        seen
    }
}

/// No frames at all, only bytes moved a message at a time.
struct BareCopy {
    size: usize,
    copy: Vec<u8>,
}

impl Contender for BareCopy {
    fn encode(&self, payload: &[u8], size: usize, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        payload.chunks_exact(size).for_each(|message| out.extend_from_slice(message));
        Ok(())
    }

    fn decode(&mut self, wire: &mut [u8]) -> Seen {
        let mut seen = Seen::default();
        self.copy.clear();
        for message in wire.chunks_exact(self.size) {
            self.copy.extend_from_slice(message);
            seen.note(message);
        }
        black_box(&self.copy);
        seen
    }

    fn echo(&mut self, wire: &mut [u8], out: &mut Vec<u8>) -> Seen {
        let mut seen = Seen::default();
        for message in wire.chunks_exact(self.size) {
            out.extend_from_slice(message);
            seen.note(message);
        }
        seen
    }
}

/// Everyone, in the order of the table.
fn contenders(size: usize) -> Vec<(&'static str, Box<dyn Contender>)> {
    let mut all: Vec<(&str, Box<dyn Contender>)> = vec![
        ("memcpy", Box::new(BareCopy { size, copy: Vec::with_capacity(WIRE) })),
        ("memchr", Box::new(BareLines)),
        ("Lines", Box::new(Framed::new(Lines::default()))),
        ("LengthField", Box::new(Framed::new(LengthField::u32(Endian::Big)))),
    ];
    for &word in AnyFraming::WORDS {
        if ["json", "xml", "resp"].contains(&word) {
            continue;
        }
        let max = (word == "raw").then_some(size);
        // What a word leaves open: a delimiter, the size of a message, a width.
        let spec = word.replace("BYTES", "~~").replace("fixed:N", &format!("fixed:{size}"));
        let spec = spec.replace('N', "8");
        let framing = AnyFraming::from_spec(&spec, max).expect("a word, filled in, is a SPEC");
        all.push((word, Box::new(Framed::new(framing))));
    }
    all
}

/// The work of one contender for messages of one size.
struct Task {
    name: &'static str,
    contender: Box<dyn Contender>,
    /// `None` if it cannot say such messages.
    frames: Option<Frames>,
}

/// Messages without and with their frames.
struct Frames {
    payload: Vec<u8>,
    wire: Vec<u8>,
    holds: Seen,
    /// `wire` again, if decoding changes it.
    fresh: Option<Vec<u8>>,
}

impl Frames {
    /// As many frames as one read can hold.
    fn new(contender: &mut dyn Contender, size: usize) -> Option<Self> {
        let mut frame = Vec::new();
        contender.encode(&vec![b'x'; size], size, &mut frame).ok()?;
        let messages = WIRE / frame.len();
        let bytes = messages * size;
        let payload: Vec<u8> = (b'a'..=b'z').cycle().take(bytes).collect();
        let mut wire = Vec::with_capacity(WIRE);
        contender.encode(&payload, size, &mut wire).ok()?;
        let mut decoded = wire.clone();
        contender.decode(&mut decoded);
        let fresh = (decoded != wire).then(|| wire.clone());
        Some(Self { payload, wire, holds: Seen { messages, bytes }, fresh })
    }

    /// The bytes to decode.
    fn wire(&mut self) -> &mut [u8] {
        if let Some(fresh) = &self.fresh {
            self.wire.copy_from_slice(fresh);
        }
        &mut self.wire
    }
}

impl Task {
    /// Nanoseconds for decoding one message.
    fn decode(&mut self, sample: Duration) -> Option<f64> {
        let frames = self.frames.as_mut()?;
        let holds = frames.holds;
        let ns = time(sample, || {
            let seen = self.contender.decode(black_box(frames.wire()));
            assert_eq!(seen, holds, "{}", self.name);
        });
        Some(ns / holds.messages as f64)
    }

    /// Nanoseconds for one message, from a read to what is to be written.
    fn echo(&mut self, sample: Duration) -> Option<f64> {
        let frames = self.frames.as_mut()?;
        let (holds, len) = (frames.holds, frames.wire.len());
        let mut out = Vec::with_capacity(WIRE);
        let ns = time(sample, || {
            out.clear();
            let seen = self.contender.echo(black_box(frames.wire()), &mut out);
            assert_eq!((seen, out.len()), (holds, len), "{}", self.name);
            black_box(&out);
        });
        Some(ns / holds.messages as f64)
    }

    /// Nanoseconds for encoding one message, into memory that is there already.
    fn encode(&mut self, size: usize, sample: Duration) -> Option<f64> {
        let frames = self.frames.as_mut()?;
        frames.wire();
        let Frames { payload, wire, holds, .. } = frames;
        let mut out = Vec::with_capacity(WIRE);
        let ns = time(sample, || {
            out.clear();
            let encoded = self.contender.encode(black_box(payload), size, &mut out);
            assert_eq!((encoded, out.len()), (Ok(()), wire.len()), "{}", self.name);
            black_box(&out);
        });
        assert_eq!(out, *wire, "{}", self.name);
        Some(ns / holds.messages as f64)
    }
}

/// Nanoseconds that one call of `pass` takes on average, over `sample` or more.
fn time(sample: Duration, mut pass: impl FnMut()) -> f64 {
    let start = Instant::now();
    let mut passes = 0;
    loop {
        (0..PASSES_PER_LOOK).for_each(|_| pass());
        passes += PASSES_PER_LOOK;
        let passed = start.elapsed();
        if passed >= sample {
            return passed.as_nanos() as f64 / f64::from(passes);
        }
    }
}

/// One contender's times for one size, in nanoseconds per message by round.
struct Row {
    name: &'static str,
    size: usize,
    decode: Vec<f64>,
    encode: Vec<f64>,
    echo: Vec<f64>,
}

/// Measures all contenders in turns, so that a slow moment hits them alike.
fn measure(size: usize, plan: &Plan) -> Vec<Row> {
    let mut tasks = Vec::new();
    let mut rows = Vec::new();
    for (name, mut contender) in contenders(size) {
        let frames = Frames::new(&mut *contender, size);
        tasks.push(Task { name, contender, frames });
        rows.push(Row { name, size, decode: Vec::new(), encode: Vec::new(), echo: Vec::new() });
    }
    for _ in 0..plan.rounds {
        for (task, row) in tasks.iter_mut().zip(&mut rows) {
            row.decode.extend(task.decode(plan.sample));
            row.encode.extend(task.encode(size, plan.sample));
            row.echo.extend(task.echo(plan.sample));
        }
    }
    rows
}

fn print_block(title: &str, columns: &[Vec<Row>], times: impl Fn(&Row) -> &Vec<f64>) {
    let head = format!("{:>7}{:>6}{:>8}", "ns", "GB/s", "x lines");
    println!("{title:<11}{}", head.repeat(columns.len()));
    for index in 0..columns[0].len() {
        print!("{:<11}", columns[0][index].name);
        for rows in columns {
            let reference = rows.iter().find(|row| row.name == REFERENCE);
            let reference = times(reference.expect("`lines` is a word"));
            print!("{}", cell(rows[index].size, times(&rows[index]), reference));
        }
        println!();
    }
    println!();
}

/// The three numbers of a row for one size.
fn cell(size: usize, times: &[f64], reference: &[f64]) -> String {
    if times.is_empty() {
        return format!("{:>7}{:>6}{:>8}", "-", "-", "-");
    }
    let ns = median(times.iter().copied());
    let ratio = median(times.iter().zip(reference).map(|(ns, lines)| ns / lines));
    let rate = size as f64 / ns;
    // Two digits after the point mean something only where one stands before it.
    let rate = if rate < 10.0 { format!("{rate:.1}") } else { format!("{rate:.0}") };
    format!("{ns:>7.1}{rate:>6}{ratio:>8.2}")
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
