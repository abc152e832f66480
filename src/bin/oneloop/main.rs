//! The command line. Uses only the public API of the library.
//!
//! What a library must not do happens here: signals are caught, the log goes to
//! stderr, and the limit of descriptors is raised.

mod address;
mod bench;
mod check;
mod ending;
mod explain;
mod framing;
mod journal;
mod json;
mod notation;
mod paper;
mod preflight;
mod presets;
mod restart;
mod send;
mod serve;
mod units;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Args, FromArgMatches, Parser, Subcommand};

/// One loop, many clients: a framed-message TCP server on one thread.
#[derive(Parser)]
#[command(version, arg_required_else_help = true, max_term_width = 100)]
#[command(disable_help_flag = true, disable_help_subcommand = true)]
#[command(after_help = "\
Examples:
  oneloop serve                                   echo lines on 127.0.0.1:7000
  oneloop serve -l 0.0.0.0:9000 -f u32be,max=64k  echo frames with a 4-byte length
  oneloop serve --preset header64                 be the server of a known tutorial
  oneloop send 127.0.0.1:7000 hello               talk to the first one
  oneloop bench 127.0.0.1:7000 -c 1000            measure it")]
struct Cli {
    #[command(subcommand)]
    command: Command,

    /// Print help
    // One help text, and it fits on a screen.
    #[arg(short, long, global = true, action = ArgAction::HelpShort, display_order = 100)]
    help: Option<bool>,
}

// Flags are made when their subcommand is asked for: those of all of them take more memory
// than serving does.
#[derive(Subcommand)]
#[command(defer = true)]
enum Command {
    /// Serve clients until a signal ends it
    Serve(Flags<serve::Serve>),
    /// Send messages to a server and print its replies
    Send(Flags<send::Send>),
    /// Load a server and measure its latency
    Bench(Flags<bench::Bench>),
    /// See whether this machine has what serve and bench need
    Check(Flags<check::CheckFlags>),
    /// Show what a framing looks like, its limits, and what it makes of captured bytes
    Explain(Flags<explain::Explain>),
    /// Show the presets: the servers of the documents, a row each
    Presets(Flags<presets::Presets>),
}

/// The flags of a subcommand, each of which can be a variable of the environment, too.
struct Flags<A>(Box<A>);

impl<A: Args> Args for Flags<A> {
    fn augment_args(command: clap::Command) -> clap::Command {
        // Groups of flags have a line of their own, which is not what it is all about.
        let about = command.get_about().cloned().unwrap_or_default();
        A::augment_args(command).about(about).mut_args(from_environment)
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        A::augment_args_for_update(command).mut_args(from_environment)
    }
}

impl<A: FromArgMatches> FromArgMatches for Flags<A> {
    fn from_arg_matches(found: &ArgMatches) -> Result<Self, clap::Error> {
        A::from_arg_matches(found).map(|flags| Self(Box::new(flags)))
    }

    fn update_from_arg_matches(&mut self, found: &ArgMatches) -> Result<(), clap::Error> {
        self.0.update_from_arg_matches(found)
    }
}

/// Why the program ends early, and so its exit code.
enum Failure {
    /// The operator asked for what cannot be: 2.
    Usage(String),
    /// It could be, but not here and now: 1.
    Runtime(String),
    /// It could be measured, and is not good enough: 99.
    Threshold(String),
    /// A second signal: 128 and its number.
    Signal(i32),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    let done = match cli.command {
        Command::Serve(flags) => flags.0.run(),
        Command::Send(flags) => flags.0.run(),
        Command::Bench(flags) => flags.0.run(),
        Command::Check(flags) => flags.0.run(),
        Command::Explain(flags) => flags.0.run(),
        Command::Presets(flags) => flags.0.run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Usage(text)) => fail(2, &text),
        Err(Failure::Runtime(text)) => fail(1, &text),
        Err(Failure::Threshold(text)) => fail(99, &text),
        Err(Failure::Signal(number)) => ExitCode::from(u8::try_from(128 + number).unwrap_or(1)),
    }
}

/// Flags win over the environment, and the environment wins over defaults.
fn from_environment(arg: Arg) -> Arg {
    match arg.get_long() {
        Some(long) if arg.get_action().takes_values() => {
            let name = format!("ONELOOP_{}", long.to_uppercase().replace('-', "_"));
            arg.env(name).hide_env(true)
        }
        _ => arg,
    }
}

fn fail(code: u8, text: &str) -> ExitCode {
    complain(&format!("error: {text}"));
    ExitCode::from(code)
}

/// Not `eprintln`: that panics where stderr is closed or full.
fn complain(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Help goes out as it is; an error in one line, without the usage that clap prints
/// below it.
fn refuse(error: &clap::Error) -> ExitCode {
    if matches!(
        error.kind(),
        ErrorKind::DisplayHelp
            | ErrorKind::DisplayVersion
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    ) {
        error.exit();
    }
    let text = error.render().to_string();
    let lines = text.lines().map(str::trim);
    let telling =
        lines.take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"));
    let line = telling.filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ");
    complain(&line.replace(":; ", ": "));
    ExitCode::from(2)
}
