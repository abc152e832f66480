//! What a framing costs, in nanoseconds per message.
//!
//! ```text
//!  payload ─▶ encode ─▶ 64 KiB of whole frames ─▶ Framing::each ─▶ messages counted
//! ```
//!
//! ```text
//!                             16 B                 64 B                256 B               4096 B
//! decode          ns  GB/s x lines     ns  GB/s x lines     ns  GB/s x lines     ns  GB/s x lines
//! memcpy         1.7   9.6    0.22    1.7    38    0.21    3.4    75    0.39   45.8    89    1.39
//! memchr         4.9   3.3    0.67    5.6    11    0.72    6.8    38    0.79   31.0   132    0.94
//! Lines          7.3   2.2    1.00    7.9   8.1    1.02    8.6    30    1.00   32.1   127    0.98
//! LengthField    4.4   3.6    0.61    4.5    14    0.57    4.5    57    0.52    5.4   753    0.17
//! lines          7.3   2.2    1.00    7.8   8.2    1.00    8.6    30    1.00   33.0   124    1.00
//! u8             4.1   3.9    0.56    4.1    16    0.53      -     -       -      -     -       -
//! u16be          4.5   3.6    0.61    5.1    12    0.65    4.6    56    0.53    7.6   538    0.23
//! u16le          4.3   3.8    0.59    4.3    15    0.55    4.4    58    0.51    7.2   572    0.22
//! u24be          5.5   2.9    0.74    5.5    12    0.70    5.6    46    0.65    6.5   628    0.20
//! u24le          5.4   3.0    0.74    5.4    12    0.69    5.5    47    0.64    8.3   491    0.25
//! u32be          4.4   3.6    0.61    4.5    14    0.57    4.5    57    0.52    5.5   749    0.17
//! u32le          4.4   3.7    0.60    4.4    15    0.56    4.4    58    0.51    5.4   760    0.16
//! u64be          5.2   3.1    0.71    5.2    12    0.67    5.3    48    0.62    6.3   651    0.19
//! u64le          4.7   3.4    0.66    4.9    13    0.62    4.9    52    0.57    5.9   690    0.18
//! raw            1.1    15    0.15    1.1    59    0.14    1.1   226    0.13    1.2  3293    0.04
//!
//! encode          ns  GB/s x lines     ns  GB/s x lines     ns  GB/s x lines     ns  GB/s x lines
//! memcpy         1.6   9.8    0.26    1.6    40    0.21    3.3    76    0.41   46.1    89    0.73
//! memchr         1.6   9.9    0.26    3.4    19    0.48    4.9    52    0.60   46.3    89    0.74
//! Lines          6.1   2.6    1.00    6.8   9.4    0.98    7.8    33    0.97   68.0    60    1.08
//! LengthField    8.1   2.0    1.33    8.4   7.6    1.20    9.4    27    1.16   48.4    85    0.77
//! lines          6.2   2.6    1.00    7.0   9.2    1.00    8.2    31    1.00   62.9    65    1.00
//! u8             7.1   2.3    1.15    7.3   8.8    1.04      -     -       -      -     -       -
//! u16be          8.7   1.8    1.39    8.9   7.2    1.26    9.8    26    1.22   49.0    84    0.78
//! u16le          8.5   1.9    1.38    8.8   7.3    1.26   10.1    25    1.24   48.7    84    0.77
//! u24be          8.6   1.9    1.38    8.8   7.3    1.25    9.7    26    1.20   48.4    85    0.77
//! u24le          8.5   1.9    1.35    8.7   7.4    1.25    9.6    27    1.18   47.9    86    0.77
//! u32be          8.4   1.9    1.35    8.5   7.5    1.21    9.5    27    1.18   48.4    85    0.77
//! u32le          8.3   1.9    1.34    8.5   7.5    1.21    9.7    26    1.20   48.2    85    0.77
//! u64be          8.4   1.9    1.34    8.6   7.4    1.23    9.5    27    1.17   48.7    84    0.78
//! u64le          8.1   2.0    1.34    8.5   7.5    1.23    9.5    27    1.19   48.2    85    0.77
//! raw            2.0   8.1    0.32    2.7    23    0.40    5.4    47    0.66   58.8    70    0.94
//!
//! medians of 11 rounds
//! ```
//!
//! The rows: two base lines, two types, and every word of `AnyFraming::WORDS` by way
//! of `AnyFraming`, but for those whose messages have a grammar: `boundaries` has them. `memcpy` copies each message and does nothing else. `memchr` is
//! the bare loop over lines: search, drop a CR, count; back, copy and push LF. `Lines`
//! and `LengthField` are `lines` and `u32be` without the enum, to show what it costs.
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
