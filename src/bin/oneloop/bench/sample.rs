//! A run that was never made, for tests of what shows runs.

use hdrhistogram::Histogram;
use oneloop::load::report::{
    End, Errors, Generator, Histograms, Host, Interval, Latency, Model, Start,
};

use super::histogram::Times;

/// Open, with a stall of `stall_s` in the middle of 10 s, on a server whose replies take
/// `slower` times 200 us.
pub(super) fn run(slower: f64, stall_s: f64) -> End {
    let new = || Histogram::<u64>::new_with_bounds(1, 86_400_000_000_000, 3).expect("bounds");
    let (mut corrected, mut uncorrected, mut lag, mut connect) = (new(), new(), new(), new());
    let mut random = 88_172_645_463_325_252_u64;
    let mut intervals = Vec::new();
    let mut received = 0;
    for second in 0..10_u32 {
        let mut now = new();
        for message in 0..5000 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let unit = (random >> 11) as f64 / (1_u64 << 53) as f64;
            let tail = 60.0 * (1.0 / (1.0 - unit * 0.99999)).powf(0.35);
            let us = slower * (140.0 + tail + f64::from(second));
            let at = f64::from(second) + f64::from(message) / 5000.0;
            let waited = if (5.0..5.0 + stall_s).contains(&at) { 5.0 + stall_s - at } else { 0.0 };
            let whole = ((us + waited * 1e6) * 1000.0) as u64;
            now.saturating_record(whole);
            corrected.saturating_record(whole);
            uncorrected.saturating_record((us * 1000.0) as u64);
            lag.saturating_record((unit * 20_000.0) as u64);
            if message % 50 == 0 {
                connect.saturating_record((us * 500.0) as u64);
            }
            received += 1;
        }
        let stalled = f64::from(second) >= 5.0 && f64::from(second) < 5.0 + stall_s;
        intervals.push(Interval {
            t_s: f64::from(second) + 1.0,
            length_s: 1.0,
            open: 100,
            sent: 5000,
            received: if stalled { 40 } else { 4990 + u64::from(second) },
            errors: Errors { timeout: u64::from(stalled), ..Errors::default() },
            latency_us: Times(now).percentiles(),
            send_lag_p99_us: Some(19.5),
            ..Interval::default()
        });
    }
    let [corrected, uncorrected, connect, lag] = [corrected, uncorrected, connect, lag].map(Times);
    End {
        start: start(),
        elapsed_s: 10.0,
        connected: 100,
        open: 100,
        sent: received + 3,
        received,
        received_per_s: received as f64 / 10.0,
        received_bytes: received * 64,
        unanswered: 3,
        oldest_unanswered_us: Some(812.0),
        errors: Errors { timeout: stall_s.round() as u64, ..Errors::default() },
        latency_us: Latency {
            corrected: corrected.percentiles(),
            uncorrected: uncorrected.percentiles(),
        },
        connect_us: connect.percentiles(),
        send_lag_us: lag.percentiles(),
        generator: Generator { busy: Some(0.43), spins: true, why: None },
        intervals,
        histograms: Histograms {
            corrected: Some(corrected.write()),
            uncorrected: Some(uncorrected.write()),
            connect: Some(connect.write()),
            send_lag: Some(lag.write()),
        },
        ..End::default()
    }
}

fn start() -> Start {
    Start {
        target: "127.0.0.1:7000".into(),
        framing: "lines".into(),
        reply_framing: "lines".into(),
        connections: 100,
        model: Model::Open,
        depth: 1,
        rate_per_s: Some(5000.0),
        message_bytes: 64,
        duration_s: Some(10.0),
        nofile: Some(20_000),
        host: Host { cores: 2, kernel: Some("6.18.5".into()), cpu: Some("Example 9000".into()) },
        version: "0.1.0".into(),
        command: ["oneloop", "bench", "127.0.0.1:7000", "-c", "100", "-r", "5k", "-d", "10s"]
            .map(String::from)
            .to_vec(),
        started_unix_s: Some(1_764_000_000),
        ..Start::default()
    }
}
