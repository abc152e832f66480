//! `oneloop check`: would `serve` and `bench` have what they need on this machine?

use std::fmt::Write as _;
use std::io::{self, ErrorKind, Write as _};

use crate::Failure;
use crate::address::{self, Address};
use crate::json;
use crate::preflight::{self, Check, Status, Wanted};
use crate::units;
use clap::Args;

#[derive(Args)]
#[command(after_help = "\
OK: as it should be. WARN: it works, but slower or less than wanted; or it could not be read.
FAIL: it will not work. A line `fix:` has the command, for root; what sysctl sets lasts until
the next boot. Nothing is changed by looking.

  oneloop check -c 50k -l 0.0.0.0:7000     for so many connections to that address
  oneloop check --json | jq '.checks[] | select(.status != \"ok\")'

Exit codes: 0 if nothing fails, 1 if something does, 2 for options that cannot be.")]
pub(crate) struct CheckFlags {
    /// Connections at once that there shall be room for
    #[arg(short, long, value_name = "N", value_parser = units::count, default_value = "10k")]
    connections: usize,

    /// Where to listen: host:port, [v6]:port, unix:PATH; repeatable
    #[arg(short, long, value_name = "ADDR", default_value = "127.0.0.1:7000")]
    #[arg(value_delimiter = ',', value_parser = address::parse)]
    listen: Vec<Address>,

    /// One JSON object: checks with name, status, found, wanted, fix, and their numbers
    #[arg(long)]
    json: bool,
}

impl CheckFlags {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let wanted = Wanted { connections: self.connections, listen: &self.listen };
        let checks = preflight::check(&wanted);
        let text = match self.json {
            true => format!("{}\n", to_json(&wanted, &checks)),
            false => table(&checks),
        };
        match io::stdout().write_all(text.as_bytes()) {
            // Who reads the first lines only has what they wanted.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
            result => {
                result.map_err(|error| Failure::Runtime(format!("cannot print: {error}")))?;
            }
        }
        let failing = checks.iter().filter(|check| check.status == Status::Fail);
        match failing.map(|check| check.name).collect::<Vec<_>>() {
            names if names.is_empty() => Ok(()),
            names => Err(Failure::Runtime(format!(
                "{} of {} checks failed: {}",
                names.len(),
                checks.len(),
                names.join(", ")
            ))),
        }
    }
}

/// A line each, and one more for what would be right and what to do.
fn table(checks: &[Check]) -> String {
    let width = checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for check in checks {
        let status = match check.status {
            Status::Ok => "OK  ",
            Status::Warn => "WARN",
            Status::Fail => "FAIL",
        };
        let indent = width + 8;
        let mut line = |text_: &str| writeln!(text, "{text_}").expect("a string takes everything");
        line(&format!("{status}  {:width$}  {}", check.name, check.found));
        if check.status != Status::Ok {
            line(&format!("{:indent$}wanted: {}", "", check.wanted));
        }
        if let Some(fix) = &check.fix {
            line(&format!("{:indent$}fix: {fix}", ""));
        }
    }
    text
}

fn to_json(wanted: &Wanted<'_>, checks: &[Check]) -> String {
    let checks = checks.iter().map(|check| {
        let status = match check.status {
            Status::Ok => "ok",
            Status::Warn => "warn",
            Status::Fail => "fail",
        };
        let mut members = vec![
            ("name", check.name.into()),
            ("status", status.into()),
            ("found", check.found.clone().into()),
            ("wanted", check.wanted.clone().into()),
            ("fix", check.fix.clone().into()),
        ];
        members.extend(check.numbers.iter().map(|&(key, number)| (key, number.into())));
        json::object(&members)
    });
    let checks = checks.collect::<Vec<_>>().join(",");
    format!("{{\"v\":1,\"connections\":{},\"checks\":[{checks}]}}", wanted.connections)
}
