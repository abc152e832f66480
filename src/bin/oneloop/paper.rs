//! What the log is written on: it may be full, gone, or read by nobody, and the loop must
//! not notice.
//!
//! ```text
//!  a line ──▶ no room? ────────────────▶ counted
//!         ──▶ escaped ──▶ one write ──▶ failed, or in part? ──▶ counted
//!  the first line that can be written again says how many are missing
//! ```
//!
//! No thread and no queue: whether a write would wait is asked before it. A pipe that has
//! room at all has it for PIPE_BUF bytes, 4096 on Linux, and no write here is longer. (Who
//! else writes into the same pipe between the two calls can still make us wait, once.
//! O_NONBLOCK would prevent that, but it is shared with everyone who has this terminal.)

use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// No write is longer, in bytes: 256 bytes of a message, each escaped in four, and what
/// stands around them.
pub(crate) const MAX_WRITE: usize = 4096;

/// Takes every line at once, and loses what cannot be written.
pub(crate) struct Paper<W> {
    out: W,
    lost: u64,
    /// The last write ended in the middle of a line.
    torn: bool,
}

impl<W: Write + AsFd> Paper<W> {
    pub(crate) fn new(out: W) -> Self {
        Self { out, lost: 0, torn: false }
    }

    fn put(&mut self, line: &[u8]) {
        if self.lost > 0 {
            let end = if self.torn { "\n" } else { "" };
            let note = format!("{end}[WARN] [LOG] {} lines could not be written\n", self.lost);
            if !self.try_write(note.as_bytes()) {
                self.lost += 1;
                return;
            }
            self.lost = 0;
        }
        let escaped;
        let line = match is_clean(line) {
            true => line,
            false => {
                escaped = escape(line);
                &escaped
            }
        };
        if !line.chunks(MAX_WRITE).all(|piece| self.try_write(piece)) {
            self.lost += 1;
        }
    }

    /// Whether all of it was written.
    fn try_write(&mut self, bytes: &[u8]) -> bool {
        if !self.has_room() {
            return false;
        }
        let written = match self.out.write(bytes) {
            Err(error) if error.kind() == ErrorKind::Interrupted => self.out.write(bytes),
            written => written,
        };
        let count = written.unwrap_or(0);
        if count > 0 {
            self.torn = bytes[count - 1] != b'\n';
        }
        count == bytes.len()
    }

    /// Whether a write would be done at once, if only to fail.
    fn has_room(&self) -> bool {
        let mut fds = [PollFd::new(self.out.as_fd(), PollFlags::POLLOUT)];
        poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }
}

impl<W: Write + AsFd> Write for Paper<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if !line.is_empty() {
            self.put(line);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether it is printable ASCII up to its end of line.
fn is_clean(line: &[u8]) -> bool {
    line.strip_suffix(b"\n").unwrap_or(line).iter().all(|byte| matches!(byte, b' '..=b'~'))
}

/// The last line of defence: whatever reached the log, one record is one line.
fn escape(line: &[u8]) -> Vec<u8> {
    let (text, end) = match line.strip_suffix(b"\n") {
        Some(text) => (text, &b"\n"[..]),
        None => (line, &b""[..]),
    };
    let mut escaped = Vec::with_capacity(line.len() * 2);
    for &byte in text {
        match byte {
            b' '..=b'~' => escaped.push(byte),
            _ => escaped.extend(byte.escape_ascii()),
        }
    }
    escaped.extend_from_slice(end);
    escaped
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_record_is_one_line_whatever_is_in_it() {
        assert!(is_clean(b"plain\n") && is_clean(b"") && !is_clean(b"two\nlines\n"));
        assert_eq!(
            escape(b"a\r\nb\x1b[2J\xe2\x80\xae\0c\n"),
            b"a\\r\\nb\\x1b[2J\\xe2\\x80\\xae\\x00c\n"
        );
    }

    #[test]
    fn what_nobody_reads_is_lost_without_waiting_and_counted_when_there_is_room() {
        let (ours, mut theirs) = UnixStream::pair().expect("two ends");
        let mut paper = Paper::new(ours);
        let line = [&[b'x'; 999][..], b"\n"].concat();
        for _ in 0..2000 {
            assert_eq!(paper.write(&line).expect("never fails"), 1000);
        }
        let lost = paper.lost;
        assert!((1..2000).contains(&lost), "{lost}");
        let mut read = vec![0; 1000 * (2000 - lost as usize)];
        theirs.read_exact(&mut read).expect("what was written");
        paper.write_all(b"again\n").expect("never fails");
        drop(paper);
        let mut rest = String::new();
        theirs.read_to_string(&mut rest).expect("text");
        assert_eq!(rest, format!("[WARN] [LOG] {lost} lines could not be written\nagain\n"));
    }

    #[test]
    fn a_reader_that_is_gone_or_a_full_disk_is_no_error() {
        let (ours, theirs) = UnixStream::pair().expect("two ends");
        drop(theirs);
        let mut paper = Paper::new(ours);
        paper.write_all(b"into the void\n").expect("never fails");
        assert_eq!(paper.lost, 1);
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full");
        if let Ok(full) = full {
            let mut paper = Paper::new(full);
            (0..3).for_each(|_| paper.write_all(b"no space\n").expect("never fails"));
            assert_eq!(paper.lost, 3);
        }
    }
}
