//! `--wait`: each message is sent when the one before has its reply.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use oneloop::{Client, ClientError, State};

use super::output::Output;
use super::report::{Report, Unanswered, counted};
use super::source::Source;
use super::{Talk, Wire, encode_error, printed};
use crate::Failure;

/// Asks and is answered, up to the end of one side.
pub(super) fn converse(
    talk: Talk,
    client: Client<Wire>,
    source: Source,
    output: Output,
) -> Result<(), Failure> {
    let connected = Arc::new(AtomicBool::new(true));
    let seen = connected.clone();
    let client =
        client.on_state(move |state| seen.store(state == State::Connected, Ordering::Relaxed));
    let mut asking = Asking { talk, client, source, output, connected, missing: 0 };
    match asking.run() {
        Ok(()) => Ok(()),
        // Nobody reads any more, or all that was asked for has come.
        Err(None) => Ok(()),
        Err(Some(failure)) => Err(failure),
    }
}

struct Asking {
    talk: Talk,
    client: Client<Wire>,
    source: Source,
    output: Output,
    connected: Arc<AtomicBool>,
    /// Messages that were given up.
    missing: u64,
}

/// Why it ends; `None` if there is nothing to say about it.
type Stop = Option<Failure>;

impl Asking {
    fn run(&mut self) -> Result<(), Stop> {
        while let Some(message) = self.source.next()? {
            if let Some(reply) = self.ask(&message)? {
                self.print(&reply)?;
            }
        }
        if !self.talk.flags.no_close {
            self.client.finish();
        }
        // Without a connection, to receive would make another.
        if self.connected.load(Ordering::Relaxed) {
            self.print_the_rest()?;
        }
        match self.missing {
            0 => Ok(()),
            missing => Err(Some(Failure::Runtime(format!(
                "{}: {} of {} not answered",
                self.talk.addr,
                missing,
                counted(self.source.count, "message was", "messages were")
            )))),
        }
    }

    /// The reply; `None` if it is given up, which was said.
    fn ask(&mut self, message: &[u8]) -> Result<Option<Vec<u8>>, Stop> {
        for again in 0.. {
            let error = match self.client.request(message) {
                Ok(reply) => return Ok(Some(reply)),
                Err(error) => error,
            };
            let number = self.source.count;
            let mut report = match &error {
                ClientError::Lost { why, .. } => {
                    Report::lost(&self.talk.addr, Some(why), self.output.count, true)
                }
                error => {
                    let mut report = match encode_error(error) {
                        Some(text) => Report::new(format!(
                            "{}: {}: {text}",
                            self.talk.addr,
                            self.source.name()
                        )),
                        None => Report::of(error),
                    };
                    report.unsent(self.source.rest(), number - 1);
                    return Err(Some(report.failure()));
                }
            };
            let texts = error.into_unanswered();
            report.unanswered(&Unanswered { first: number, count: texts.len() as u64, texts });
            let flags = &self.talk.flags;
            if flags.retry == 0 || (flags.resend && again == flags.retry) {
                report.unsent(self.source.rest(), number);
                return Err(Some(report.failure()));
            }
            if flags.resend {
                self.output.note(&format!("{}; sending it again", report.warning()));
            } else {
                self.output.note(&report.warning());
                self.missing += 1;
                return Ok(None);
            }
        }
        Ok(None)
    }

    /// What comes after the last reply, up to the end, or until nothing comes any more.
    fn print_the_rest(&mut self) -> Result<(), Stop> {
        loop {
            match self.client.receive() {
                Ok(Some(reply)) => self.print(&reply)?,
                Ok(None) | Err(ClientError::Timeout { .. }) => return Ok(()),
                Err(ClientError::Lost { why, .. }) => {
                    let report = Report::lost(&self.talk.addr, Some(&why), self.output.count, true);
                    return Err(Some(report.failure()));
                }
                Err(error) => return Err(Some(Report::of(&error).failure())),
            }
        }
    }

    fn print(&mut self, reply: &[u8]) -> Result<(), Stop> {
        printed(self.output.print(reply))?;
        if self.output.count >= self.talk.most { Err(None) } else { Ok(()) }
    }
}
