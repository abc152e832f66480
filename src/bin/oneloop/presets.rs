//! The servers of the documents, as rows of one table.

use std::fmt::Write as _;
use std::io::{self, ErrorKind, Write as _};

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser, ValueParser};
use clap::{Args, ValueEnum};
use log::Level;

use crate::Failure;
use crate::serve::ServiceName;

/// What one name stands for. A flag beside it overrides its column.
pub(crate) struct Preset {
    pub(crate) name: &'static str,
    /// How messages are framed: a SPEC.
    pub(crate) framing: &'static str,
    /// How replies are framed: a SPEC, or [`SAME`].
    pub(crate) replies: &'static str,
    pub(crate) service: ServiceName,
    /// Connections at once, if not as many as without a preset.
    pub(crate) connections: Option<usize>,
    /// The message after whose reply a connection is closed.
    pub(crate) closing_word: Option<&'static str>,
    /// At which level messages are shown in the log.
    pub(crate) shown: Level,
    /// Whose clients it serves.
    about: &'static str,
}

/// The reply framing that is the framing of messages, whatever that is.
pub(crate) const SAME: &str = "same";

use ServiceName::{Average, Echo, Oneline, Railroad, Receipt};

#[rustfmt::skip]
const PRESETS: [Preset; 7] = [
    Preset::row("msgsocket", "base128",        Echo,     "message sockets: length in two digits"),
    Preset::row("railroad",  "base128",        Railroad, "throttles of a model railroad"),
    Preset::row("string8",   "ascii:8",        Echo,     "send_string, read_string"),
    Preset::row("average",   "ascii:8",        Average,  "lists of numbers, by send_string"),
    Preset::row("oneline",   "lines",          Oneline,  "the socket-oneline package").connections(1),
    Preset::row("sized",     "u32be",          Receipt,  "<size><data>, acknowledged"),
    Preset::row("header64",  "ascii:64:space", Receipt,  "64-byte headers, bare text back").replies("raw").closing_word("!DISCONNECT"),
];

impl Preset {
    const fn row(
        name: &'static str,
        framing: &'static str,
        service: ServiceName,
        about: &'static str,
    ) -> Self {
        Self {
            name,
            framing,
            replies: SAME,
            service,
            connections: None,
            closing_word: None,
            shown: Level::Info,
            about,
        }
    }

    const fn replies(mut self, spec: &'static str) -> Self {
        self.replies = spec;
        self
    }

    const fn connections(mut self, most: usize) -> Self {
        self.connections = Some(most);
        self
    }

    const fn closing_word(mut self, word: &'static str) -> Self {
        self.closing_word = Some(word);
        self
    }
}

/// Reads the name of a preset; a wrong one is answered with the nearest right ones.
pub(crate) fn parser() -> ValueParser {
    let names = PRESETS.iter().map(|preset| PossibleValue::new(preset.name).help(preset.about));
    let find = |name: String| PRESETS.iter().find(|preset| preset.name == name);
    let parser = PossibleValuesParser::new(names)
        .map(move |name| find(name).expect("the names offered are those of the table"));
    ValueParser::new(parser)
}

#[derive(Args)]
#[command(after_help = "\
oneloop serve --preset NAME runs one. A flag beside it overrides its column, and replies
that are framed the same follow an overridden framing.")]
pub(crate) struct Presets {}

impl Presets {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        match io::stdout().write_all(table().as_bytes()) {
            // Who reads the first line only has what they wanted.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            result => result.map_err(|error| Failure::Runtime(format!("cannot print: {error}"))),
        }
    }
}

fn table() -> String {
    let mut rows = vec![
        ["PRESET", "FRAMING", "REPLIES", "SERVICE", "CLIENTS", "CLOSED BY", "LOGGED", "FOR"]
            .map(String::from),
    ];
    rows.extend(PRESETS.iter().map(|preset| {
        let service = preset.service.to_possible_value();
        let connections = preset.connections.map(|most| most.to_string());
        [
            preset.name.to_string(),
            preset.framing.to_string(),
            preset.replies.to_string(),
            service.map_or_else(String::new, |service| service.get_name().to_string()),
            connections.unwrap_or("-".into()),
            preset.closing_word.unwrap_or("-").to_string(),
            preset.shown.as_str().to_lowercase(),
            preset.about.to_string(),
        ]
    }));
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: [usize; 8] = std::array::from_fn(width);
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        writeln!(text, "{}", line.trim_end()).expect("a string takes everything");
    }
    text
}
