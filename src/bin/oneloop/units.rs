//! Numbers with units, as operators write them: `64k`, `10k`, `1.5s`, `off`.

use std::time::Duration;

use oneloop::Rate;

/// Permissions of a file in octal digits, as chmod takes them.
pub(crate) fn mode(text: &str) -> Result<u32, String> {
    let octal = !text.is_empty() && text.bytes().all(|b| matches!(b, b'0'..=b'7'));
    let mode = octal.then(|| u32::from_str_radix(text, 8).ok()).flatten();
    mode.filter(|mode| *mode <= 0o777).ok_or("not permissions in octal, like 660".into())
}

/// Bytes; k, m, g count by 1024.
pub(crate) fn size(text: &str) -> Result<usize, String> {
    oneloop::parse_size(text).ok_or("not a size in bytes, like 65536, 64k or 1m".into())
}

/// A memory budget; less than one read can bring would be no budget.
pub(crate) fn memory(text: &str) -> Result<usize, String> {
    let enough = size(text)?;
    (enough >= 64 << 10).then_some(enough).ok_or("a budget has 64k at least".into())
}

/// Bytes, as people read them.
pub(crate) fn bytes(count: u64) -> String {
    match count {
        0..10_000 => format!("{count} bytes"),
        10_000..10_000_000 => format!("{} KiB", count >> 10),
        10_000_000..10_000_000_000 => format!("{} MiB", count >> 20),
        _ => format!("{} GiB", count >> 30),
    }
}

/// A number of things; k and m count by 1000.
pub(crate) fn count(text: &str) -> Result<usize, String> {
    let (digits, unit) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 1000),
        Some(b'm' | b'M') => (&text[..text.len() - 1], 1_000_000),
        _ => (text, 1),
    };
    let number = digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse::<usize>().ok());
    let count = number.flatten().and_then(|number| number.checked_mul(unit));
    count.ok_or("not a number, like 500 or 10k".into())
}

/// So many a second; k and m count by 1000, fractions are allowed.
pub(crate) fn rate(text: &str) -> Result<f64, String> {
    let (digits, unit) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 1e3),
        Some(b'm' | b'M') => (&text[..text.len() - 1], 1e6),
        _ => (text, 1.0),
    };
    let plain = digits.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let number = digits.parse::<f64>().ok().filter(|_| plain).map(|number| number * unit);
    match number {
        Some(rate) if rate > 0.0 => Ok(rate),
        Some(_) => Err("nothing happens at a rate of zero; say more, like 0.5 or 10k".into()),
        None => Err("not a rate, like 500, 2.5k or 1m a second".into()),
    }
}

/// So many a second, and behind a slash so many at once, else as many.
pub(crate) fn rate_limit(text: &str) -> Result<Rate, String> {
    let wrong = || "not a rate, like 10 a second, or 10/50 with 50 at once".to_string();
    let number = |text| count(text).ok().and_then(|n| u32::try_from(n).ok()).filter(|&n| n > 0);
    let (rate, burst) = match text.split_once('/') {
        Some((rate, burst)) => (rate, Some(number(burst).ok_or_else(wrong)?)),
        None => (text, None),
    };
    let rate = number(rate).filter(|&n| n <= 1_000_000_000).ok_or_else(wrong)?;
    Ok(burst.into_iter().fold(Rate::per_second(rate), Rate::burst))
}

/// A time span: us, ms, s, m, h, and s if there is no unit. Zero is refused: it
/// would close everything, and who means "never" can say `off`.
pub(crate) fn span(text: &str) -> Result<Duration, String> {
    let wrong = || "not a time, like 500ms, 30s or 1.5m".to_string();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let seconds = match &text[digits.len()..] {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" | "" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(wrong()),
    };
    let plain = digits.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let number = digits.parse::<f64>().ok().filter(|_| plain).ok_or_else(wrong)?;
    let span = Duration::try_from_secs_f64(number * seconds).map_err(|_| wrong())?;
    if span.is_zero() {
        return Err("zero is no time; say off for never, or a time like 500ms".into());
    }
    Ok(span)
}

/// A time span, or never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MaybeSpan(pub(crate) Option<Duration>);

/// A [`span`], or `off`.
pub(crate) fn maybe_span(text: &str) -> Result<MaybeSpan, String> {
    match text {
        "off" => Ok(MaybeSpan(None)),
        text => span(text).map(|span| MaybeSpan(Some(span))),
    }
}

/// A [`size`], or `off`.
pub(crate) fn maybe_size(text: &str) -> Result<MaybeSize, String> {
    match text {
        "off" => Ok(MaybeSize(None)),
        text => size(text).map(|size| MaybeSize(Some(size))),
    }
}

/// A size in bytes, or the kernel's own choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MaybeSize(pub(crate) Option<usize>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_mean_what_operators_expect_and_nothing_else_parses() {
        let ms = Duration::from_millis;
        for (text, expected) in [
            ("30s", ms(30_000)),
            ("30", ms(30_000)),
            ("1.5m", ms(90_000)),
            ("250ms", ms(250)),
            ("1h", ms(3_600_000)),
        ] {
            assert_eq!(span(text), Ok(expected), "{text}");
        }
        for text in
            ["", "s", "-1s", "+1s", "1 s", "1d", "1e3s", "inf", "0", "0ms", "1.1.1", "9e99h"]
        {
            assert!(span(text).is_err(), "{text}");
        }
        assert_eq!(maybe_span("off"), Ok(MaybeSpan(None)));
        assert_eq!((count("10k"), count("2m"), count("7")), (Ok(10_000), Ok(2_000_000), Ok(7)));
        assert_eq!((mode("660"), mode("0700"), mode("0")), (Ok(0o660), Ok(0o700), Ok(0)));
        assert_eq!((rate("2.5k"), rate("0.5"), rate("1m")), (Ok(2500.0), Ok(0.5), Ok(1e6)));
        for text in ["", "k", "0", "0.0", "-1", "+1", "1e3", "inf", "NaN", "1.1.1", "1 k"] {
            assert!(rate(text).is_err(), "{text}");
        }
        for text in ["", "8", "-1", "+7", "1777", "rw", "0o660", "77777777777777"] {
            assert!(mode(text).is_err(), "{text}");
        }
        assert_eq!(rate_limit("10"), Ok(Rate::per_second(10)));
        assert_eq!(rate_limit("1k/20"), Ok(Rate::per_second(1000).burst(20)));
        for text in ["", "0", "/", "1/", "/1", "1/0", "1/2/3", "-1", "2000m", "1.5"] {
            assert!(rate_limit(text).is_err(), "{text}");
        }
        assert_eq!((memory("64k"), memory("1g")), (Ok(64 << 10), Ok(1 << 30)));
        assert!(memory("65535").is_err() && memory("0").is_err());
        for text in ["", "k", "-1", "+1", "1.5k", "1g", "99999999999999999999"] {
            assert!(count(text).is_err(), "{text}");
        }
    }
}
