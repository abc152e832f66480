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
use clap::{Arg, ArgAction, CommandFactory, FromArgMatches, Parser, Subcommand};

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

#[derive(Subcommand)]
enum Command {
    Serve(Box<serve::Serve>),
    Send(send::Send),
    Bench(Box<bench::Bench>),
    Check(check::CheckFlags),
    Explain(explain::Explain),
    Presets(presets::Presets),
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
    let cli = Cli::command().mut_subcommands(|command| command.mut_args(from_environment));
    let cli = match cli.try_get_matches().and_then(|found| Cli::from_arg_matches(&found)) {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    let done = match cli.command {
        Command::Serve(serve) => serve.run(),
        Command::Send(send) => send.run(),
        Command::Bench(bench) => bench.run(),
        Command::Check(check) => check.run(),
        Command::Explain(explain) => explain.run(),
        Command::Presets(presets) => presets.run(),
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
