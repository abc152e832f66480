//! Numbers for people, each with its unit.

/// 1234567 as 1,234,567.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A time given in microseconds, to three digits.
pub(super) fn micros(us: f64) -> String {
    match us {
        _ if us < 999.5 => format!("{} us", digits(us)),
        _ if us < 999.5e3 => format!("{} ms", digits(us / 1e3)),
        _ => format!("{} s", digits(us / 1e6)),
    }
}

/// A time given in seconds, as it was asked for.
pub(super) fn seconds(s: f64) -> String {
    match s {
        0.0 => "0 s".into(),
        _ if s < 1.0 => micros(s * 1e6),
        _ if s < 100.0 => format!("{} s", (s * 100.0).round() / 100.0),
        _ => format!("{s:.0} s"),
    }
}

/// So many a second: whole ones, unless they are few.
pub(super) fn per_second(rate: f64) -> String {
    match rate {
        _ if rate < 100.0 => format!("{}/s", (rate * 100.0).round() / 100.0),
        _ => format!("{}/s", count(rate.round() as u64)),
    }
}

/// Bytes, or bytes a second, with what makes them short.
pub(super) fn bytes(bytes: f64) -> String {
    match bytes {
        _ if bytes < 1000.0 => format!("{bytes:.0} bytes"),
        _ if bytes < 1000.0 * 1024.0 => format!("{} KiB", digits(bytes / 1024.0)),
        _ if bytes < 1000.0 * 1_048_576.0 => format!("{} MiB", digits(bytes / 1_048_576.0)),
        _ => format!("{} GiB", digits(bytes / 1_073_741_824.0)),
    }
}

/// A part of a whole.
pub(super) fn percent(part: f64) -> String {
    match part.abs() * 100.0 {
        percent if percent < 10.0 => format!("{percent:.1} %"),
        percent => format!("{percent:.0} %"),
    }
}

/// Words for one or many.
pub(super) fn many(number: u64, one: &str) -> String {
    format!("{} {one}{}", count(number), if number == 1 { "" } else { "s" })
}

/// Three digits that mean something.
fn digits(number: f64) -> String {
    match number {
        _ if number < 9.995 => format!("{number:.2}"),
        _ if number < 99.95 => format!("{number:.1}"),
        _ => format!("{number:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_has_its_unit_and_three_digits() {
        let cases = [
            (micros(0.0), "0.00 us"),
            (micros(4.25), "4.25 us"),
            (micros(999.4), "999 us"),
            (micros(999.6), "1.00 ms"),
            (micros(42_340.0), "42.3 ms"),
            (micros(999_600.0), "1.00 s"),
            (micros(123_456_000.0), "123 s"),
            (seconds(0.0), "0 s"),
            (seconds(0.25), "250 ms"),
            (seconds(10.0), "10 s"),
            (seconds(2.5), "2.5 s"),
            (seconds(600.4), "600 s"),
            (per_second(0.5), "0.5/s"),
            (per_second(49_999.6), "50,000/s"),
            (bytes(999.0), "999 bytes"),
            (bytes(64.0 * 1024.0), "64.0 KiB"),
            (bytes(3.05 * 1_048_576.0), "3.05 MiB"),
            (count(0), "0"),
            (count(999), "999"),
            (count(1000), "1,000"),
            (count(1_234_567), "1,234,567"),
            (percent(0.034), "3.4 %"),
            (percent(-0.5), "50 %"),
            (many(1, "reply"), "1 reply"),
            (many(2, "message"), "2 messages"),
        ];
        for (text, expected) in cases {
            assert_eq!(text, expected);
        }
    }
}
