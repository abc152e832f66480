//! What became of messages, in one line: the state, what was not answered, what was not
//! sent.

use std::io::ErrorKind;

use oneloop::{ClientError, LostBy};

use super::source::Left;
use crate::Failure;

/// A line that grows.
pub(super) struct Report {
    line: String,
}

/// Messages without a reply, which came one after the other.
#[derive(Default)]
pub(super) struct Unanswered {
    /// The number of the first of them, from 1.
    pub(super) first: u64,
    pub(super) count: u64,
    /// The first few of them.
    pub(super) texts: Vec<Vec<u8>>,
}

/// Messages shown, and bytes of each.
pub(super) const SHOWN: usize = 4;
const SHOWN_BYTES: usize = 60;

impl Report {
    pub(super) fn new(line: String) -> Self {
        Self { line }
    }

    /// Of an error that costs no message.
    pub(super) fn of(error: &ClientError) -> Self {
        let advice = match error {
            ClientError::Connect { error, .. } => match error.kind() {
                ErrorKind::ConnectionRefused | ErrorKind::NotFound => "; does the server run?",
                _ => "",
            },
            _ => "",
        };
        Self::new(format!("{error}{advice}"))
    }

    /// Of the end of a connection, after so many replies.
    pub(super) fn lost(addr: &str, why: Option<&LostBy>, replies: u64, finished: bool) -> Self {
        Self::new(match why {
            None | Some(LostBy::Server | LostBy::OtherHalf) if !finished => {
                format!("{addr}: the server closed before the end of the input")
            }
            None | Some(LostBy::Server) => format!("{addr}: the server closed"),
            Some(why @ LostBy::Frame(_)) => format!("{addr}: reply {}: {why}", replies + 1),
            Some(why) => {
                format!(
                    "{addr}: connection lost after {}: {why}",
                    counted(replies, "reply", "replies")
                )
            }
        })
    }

    pub(super) fn unanswered(&mut self, what: &Unanswered) {
        let last = what.first + what.count.saturating_sub(1);
        let (said, range) = match what.count {
            0 => return,
            1 => ("1 message was not answered".to_string(), format!("{last}")),
            count => {
                (format!("{count} messages were not answered"), format!("{} to {last}", what.first))
            }
        };
        self.line += &format!("; {said} ({range}): {}", list(&what.texts, what.count));
    }

    /// What comes after the first `taken` was not sent.
    pub(super) fn unsent(&mut self, left: Left, taken: u64) {
        match left {
            Left::Of(all) => {
                let rest = all.get(usize::try_from(taken).unwrap_or(usize::MAX)..).unwrap_or(&[]);
                let said = match rest.len() {
                    0 => return,
                    1 => "1 message was not sent".to_string(),
                    count => format!("{count} messages were not sent"),
                };
                let listed = list(&rest[..rest.len().min(SHOWN)], rest.len() as u64);
                self.line += &format!("; {said}: {listed}");
            }
            Left::Lines if taken == 0 => self.line += "; nothing was sent",
            Left::Lines => self.line += &format!("; nothing after line {taken} was sent"),
        }
    }

    pub(super) fn text(self) -> String {
        self.line
    }

    pub(super) fn failure(self) -> Failure {
        Failure::Runtime(self.line)
    }

    /// For something that goes on.
    pub(super) fn warning(self) -> String {
        format!("warning: {}", self.line)
    }
}

pub(super) fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// The texts, escaped, as far as they are for a person to recognise them.
fn list(texts: &[Vec<u8>], count: u64) -> String {
    let mut shown: Vec<String> = texts
        .iter()
        .take(SHOWN)
        .map(|text| match text.len() {
            0..=SHOWN_BYTES => format!("\"{}\"", text.escape_ascii()),
            len => format!("\"{}\"... of {len} bytes", text[..SHOWN_BYTES].escape_ascii()),
        })
        .collect();
    if count > shown.len() as u64 {
        shown.push("...".into());
    }
    shown.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_one_bounded_line_of_printable_characters() {
        let mut report = Report::lost("there", None, 2, false);
        report.unanswered(&Unanswered {
            first: 3,
            count: 900,
            texts: vec![b"\x1b\n\"".to_vec(), vec![0; 1 << 20]],
        });
        report.unsent(Left::Of(vec![b"x".to_vec(); 1000].into()), 902);
        let line = report.warning();
        assert!(line.len() < 600 && !line.contains(char::is_control), "{line}");
        for words in [
            "warning: there: the server closed before the end of the input; ",
            r#"900 messages were not answered (3 to 902): "\x1b\n\"", "\x00"#,
            "of 1048576 bytes, ...; 98 messages were not sent: \"x\", \"x\", \"x\", \"x\", ...",
        ] {
            assert!(line.contains(words), "no {words} in {line}");
        }
        let mut report = Report::new("a".into());
        report.unanswered(&Unanswered { first: 1, count: 1, texts: vec![b"hi".to_vec()] });
        report.unsent(Left::Lines, 1);
        assert_eq!(
            report.line,
            "a; 1 message was not answered (1): \"hi\"; nothing after line 1 was sent"
        );
    }
}
