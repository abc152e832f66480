//! Where results go: text or JSON to stdout, files where they were asked for.

use std::fs;
use std::io::{self, ErrorKind, Write as _};
use std::path::Path;

use oneloop::load::report::{End, Event, Line};

use super::flags::OutputFlags;
use super::histogram::Times;
use super::{page, text};
use crate::Failure;

/// Prints; who reads the first lines only has what they wanted.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result.map_err(|error| Failure::Runtime(format!("cannot print: {error}"))),
    }
}

/// One line of JSON. Whether anybody can still read it.
pub(super) fn print_event(event: Event) -> bool {
    let mut out = io::stdout().lock();
    out.write_all(line(event).as_bytes()).and_then(|()| out.flush()).is_ok()
}

fn line(event: Event) -> String {
    let json = serde_json::to_string(&Line::from(event));
    json.expect("names are strings, and numbers are numbers or null") + "\n"
}

/// A run that is over, in every form that was asked for.
pub(super) fn finish(flags: &OutputFlags, end: &End) -> Result<(), Failure> {
    print(&match flags.json || flags.json_stream {
        true => line(Event::End(Box::new(end.clone()))),
        false => text::screen(end, &flags.percentiles),
    })?;
    if let Some(path) = &flags.hgrm {
        // A run without replies has a file without rows.
        let times = Times::of(end.histograms.corrected.as_ref());
        write(path, &times.map_or(String::new(), |times| times.hgrm()))?;
    }
    match &flags.report {
        Some(path) => write(path, &page::of_run(end)),
        None => Ok(()),
    }
}

pub(super) fn write(path: &Path, text: &str) -> Result<(), Failure> {
    fs::write(path, text)
        .map_err(|error| Failure::Runtime(format!("cannot write {}: {error}", path.display())))
}

/// A run as `--json` has written it, or the last line of `--json-stream`.
pub(super) fn read(path: &Path) -> Result<End, Failure> {
    let refuse = |what: String| Failure::Usage(format!("{}: {what}", path.display()));
    let text = fs::read_to_string(path)
        .map_err(|error| Failure::Runtime(format!("cannot read {}: {error}", path.display())))?;
    let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    // One object may have been spread over lines.
    let parsed = serde_json::from_str::<Line>(&text)
        .or_else(|whole| serde_json::from_str::<Line>(last).map_err(|_| whole));
    let line = parsed
        .map_err(|error| refuse(format!("no run as `oneloop bench --json` writes it: {error}")))?;
    match (line.v, line.event) {
        (oneloop::load::report::VERSION, Event::End(end)) => Ok(*end),
        (oneloop::load::report::VERSION, _) => {
            Err(refuse("a run that has no end; its last line should be the event `end`".into()))
        }
        (version, _) => Err(refuse(format!(
            "version {version} of the form; this program reads {}",
            oneloop::load::report::VERSION
        ))),
    }
}
