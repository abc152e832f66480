//! Sending and receiving side by side, on a thread each.
//!
//! ```text
//!   feed: Source ──▶ Sender      Receiver ──▶ Output :print
//!              └──▶  Ledger: what was taken, what is settled  ◀──┘
//! ```
//!
//! A message is taken when it is about to be sent, and settled when it was answered or
//! reported. Both go in order, so two numbers say which are open: no more has to be kept
//! for a server that answers nothing.
//!
//! Only `feed` makes a new connection, when it has something to send. `print` waits for
//! that, or for the end of the input.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use oneloop::{Client, ClientError, LostBy, Receiver, Sender, State};

use super::output::Output;
use super::report::{Report, SHOWN, Unanswered, counted};
use super::source::{Left, Source};
use super::{Talk, Wire, encode_error, printed};
use crate::Failure;

/// Talks up to the end of one side.
pub(super) fn converse(
    talk: Talk,
    client: Client<Wire>,
    source: Source,
    output: Output,
) -> Result<(), Failure> {
    let talk = Arc::new(talk);
    let ledger = Arc::new(Ledger::default());
    let told = ledger.clone();
    let client = client.on_state(move |state| told.told(state));
    let left = source.rest();
    let (sender, receiver) = client.split();
    let (verdict, verdicts) = mpsc::channel();
    let feeding = Feeding { talk: talk.clone(), ledger: ledger.clone(), sender, source };
    let printing = Printing { talk, ledger, receiver, output, left, missing: 0 };
    let interrupted = verdict.clone();
    // Neither can be stopped where it waits: for a line, for the server. So both are left
    // behind when there is a verdict.
    thread::spawn(move || {
        if let Some(failure) = feeding.run() {
            // Nobody listens any more if there is another verdict already.
            let _ = interrupted.send(Err(failure));
        }
    });
    thread::spawn(move || verdict.send(printing.run()));
    verdicts.recv().unwrap_or(Ok(()))
}

/// How long the sending thread may take to notice the end of the input.
const NOTICE: Duration = Duration::from_millis(500);

/// What both threads know.
#[derive(Default)]
struct Ledger {
    pages: Mutex<Pages>,
    changed: Condvar,
}

struct Pages {
    /// Messages that were sent or are being sent.
    taken: u64,
    /// Messages that were answered, or reported not to be.
    settled: u64,
    /// The oldest of those between, as many as a report shows.
    texts: VecDeque<Vec<u8>>,
    /// Since when the oldest of them waits for its reply.
    since: Option<Instant>,
    /// Connections that were made, and those whose end was received. One that is lost at
    /// once has to be received from all the same: the client makes no other before.
    made: u64,
    received: u64,
    /// The server has closed, and there will be no other connection.
    refused: bool,
    end: End,
}

/// Where the input is.
enum End {
    /// There may be more.
    Open,
    /// All was sent.
    Sent,
    /// No more can be sent, and why; up to that, replies may come.
    Failed(String),
    /// No more shall be sent: it is over.
    Over,
}

impl Default for Pages {
    fn default() -> Self {
        Self {
            taken: 0,
            settled: 0,
            texts: VecDeque::new(),
            since: None,
            // One was, before anything was told.
            made: 1,
            received: 0,
            refused: false,
            end: End::Open,
        }
    }
}

impl Ledger {
    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn told(&self, state: State) {
        if state == State::Connected {
            self.pages().made += 1;
            self.changed.notify_all();
        }
    }

    /// Notes a message that is about to be sent; false if it is too late for that.
    fn take(&self, message: &[u8]) -> bool {
        let mut pages = self.pages();
        if pages.refused || !matches!(pages.end, End::Open) {
            return false;
        }
        let open = pages.taken.saturating_sub(pages.settled);
        if open == pages.texts.len() as u64 && pages.texts.len() < SHOWN {
            pages.texts.push_back(message.to_vec());
        }
        pages.taken += 1;
        true
    }

    /// The last message could not be sent after all.
    fn give_back(&self) {
        let mut pages = self.pages();
        pages.taken -= 1;
        let open = pages.taken.saturating_sub(pages.settled);
        pages.texts.truncate(usize::try_from(open).unwrap_or(usize::MAX));
    }

    fn written(&self) {
        let mut pages = self.pages();
        if pages.taken > pages.settled {
            pages.since.get_or_insert_with(Instant::now);
        }
    }

    fn ended(&self, end: End) {
        self.pages().end = end;
        self.changed.notify_all();
    }

    /// Takes no more messages. If all was sent, that may be noticed only now: a server
    /// can close at the last of them before we have seen that it was the last.
    fn refuse(&self) {
        let mut pages = self.pages();
        pages.refused = true;
        let open = |pages: &mut Pages| matches!(pages.end, End::Open);
        drop(self.changed.wait_timeout_while(pages, NOTICE, open));
    }

    fn answered(&self) {
        let mut pages = self.pages();
        // A server may say more than it was asked.
        pages.settled = pages.taken.min(pages.settled + 1);
        pages.texts.pop_front();
        pages.since = (pages.taken > pages.settled).then(Instant::now);
    }

    /// Settles what was lost with a connection, as the client hands it back.
    fn settle(&self, texts: Vec<Vec<u8>>) -> Unanswered {
        let mut pages = self.pages();
        let (first, count) = (pages.settled + 1, texts.len() as u64);
        pages.settled += count;
        pages.texts.clear();
        pages.since = None;
        Unanswered { first, count, texts }
    }

    /// It is over: all that is open stays so, with the texts that there are of it.
    fn close(&self, texts: Vec<Vec<u8>>) -> Unanswered {
        let mut pages = self.pages();
        pages.end = End::Over;
        let count = pages.taken.saturating_sub(pages.settled);
        let texts = if texts.is_empty() { pages.texts.drain(..).collect() } else { texts };
        Unanswered { first: pages.settled + 1, count, texts }
    }
}

/// The sending side.
struct Feeding {
    talk: Arc<Talk>,
    ledger: Arc<Ledger>,
    sender: Sender<Wire>,
    source: Source,
}

impl Feeding {
    /// Sends all there is; returns what ends everything at once.
    fn run(mut self) -> Option<Failure> {
        let end = loop {
            let message = match self.source.next() {
                Ok(Some(message)) => message,
                Ok(None) => break End::Sent,
                Err(Failure::Runtime(text) | Failure::Usage(text)) => {
                    break End::Failed(format!("{}: {text}", self.talk.addr));
                }
                Err(interrupted) => return Some(interrupted),
            };
            if !self.ledger.take(&message) {
                break End::Over;
            }
            match self.sender.send(&message) {
                Ok(()) => self.ledger.written(),
                // The other thread hears of it, too, and says what it cost.
                Err(ClientError::Lost { .. }) if self.talk.flags.retry > 0 => {}
                Err(error @ ClientError::Lost { .. }) => {
                    break End::Failed(Report::of(&error).text());
                }
                Err(error) => {
                    self.ledger.give_back();
                    let text = match encode_error(&error) {
                        Some(text) => {
                            format!("{}: {}: {text}", self.talk.addr, self.source.name())
                        }
                        None => Report::of(&error).text(),
                    };
                    break End::Failed(text);
                }
            }
        };
        // First: the server may close as soon as it has heard.
        self.ledger.ended(end);
        if !self.talk.flags.no_close {
            self.sender.finish();
        }
        None
    }
}

/// The receiving side, which has the last word.
struct Printing {
    talk: Arc<Talk>,
    ledger: Arc<Ledger>,
    receiver: Receiver<Wire>,
    output: Output,
    left: Left,
    /// Messages that were reported.
    missing: u64,
}

impl Printing {
    fn run(mut self) -> Result<(), Failure> {
        loop {
            match self.receiver.receive() {
                Ok(Some(reply)) => {
                    self.ledger.answered();
                    match printed(self.output.print(&reply)) {
                        Ok(()) if self.output.count < self.talk.most => {}
                        Ok(()) | Err(None) => return Ok(()),
                        Err(Some(failure)) => return Err(failure),
                    }
                }
                Ok(None) => {
                    if let Some(result) = self.lost(None, Vec::new()) {
                        return result;
                    }
                }
                Err(ClientError::Lost { why, unanswered, .. }) => {
                    if let Some(result) = self.lost(Some(&why), unanswered) {
                        return result;
                    }
                }
                Err(ClientError::Timeout { after, .. }) => {
                    if let Some(result) = self.nothing_came(after) {
                        return result;
                    }
                }
                Err(error) => return Err(self.failure(Report::of(&error), Vec::new())),
            }
        }
    }

    /// A connection has ended. What comes of it all, or `None` if it goes on.
    fn lost(&mut self, why: Option<&LostBy>, texts: Vec<Vec<u8>>) -> Option<Result<(), Failure>> {
        let in_order = matches!(why, None | Some(LostBy::Server));
        self.ledger.pages().received += 1;
        if self.talk.flags.retry == 0 {
            self.ledger.refuse();
        }
        let (finished, failed) = match &self.ledger.pages().end {
            End::Sent => (true, None),
            End::Failed(text) => (true, Some(text.clone())),
            End::Open | End::Over => (false, None),
        };
        let mut report = Report::lost(&self.talk.addr, why, self.output.count, finished);
        if finished || self.talk.flags.retry == 0 {
            if let (Some(text), true) = (&failed, in_order) {
                report = Report::new(text.clone());
            }
            let open = self.open();
            let fine = finished && failed.is_none() && in_order;
            if fine && (open == 0 || !self.talk.is_strict()) {
                return Some(self.verdict());
            }
            return Some(Err(self.failure(report, texts)));
        }
        let lost = self.ledger.settle(texts);
        if lost.count > 0 {
            self.missing += lost.count;
            report.unanswered(&lost);
        }
        self.output.note(&report.warning());
        self.wait_for_another()
    }

    /// Until there is a connection again, or nothing to be sent on it.
    fn wait_for_another(&mut self) -> Option<Result<(), Failure>> {
        let mut pages = self.ledger.pages();
        loop {
            if pages.made > pages.received {
                return None;
            }
            match &pages.end {
                End::Open => {}
                End::Failed(text) => {
                    let report = Report::new(text.clone());
                    drop(pages);
                    return Some(Err(self.failure(report, Vec::new())));
                }
                End::Sent | End::Over => {
                    drop(pages);
                    return Some(self.verdict());
                }
            }
            pages = self.ledger.changed.wait(pages).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The server has been silent for a while: is anything missing?
    fn nothing_came(&mut self, after: Duration) -> Option<Result<(), Failure>> {
        let pages = self.ledger.pages();
        let open = pages.taken.saturating_sub(pages.settled);
        match &pages.end {
            End::Sent if open == 0 => {
                drop(pages);
                return Some(self.verdict());
            }
            _ if open == 0 => return None,
            _ => {}
        }
        // The socket counts from when we began to receive; the message may be younger.
        if pages.since.is_none_or(|since| since.elapsed() < after) {
            return None;
        }
        drop(pages);
        let text = format!("{}: connected, but nothing came in {after:?}", self.talk.addr);
        Some(Err(self.failure(Report::new(text), Vec::new())))
    }

    fn open(&self) -> u64 {
        let pages = self.ledger.pages();
        pages.taken.saturating_sub(pages.settled)
    }

    /// At the end of all.
    fn verdict(&self) -> Result<(), Failure> {
        match self.missing {
            0 => Ok(()),
            missing => Err(Failure::Runtime(format!(
                "{}: {missing} of {} not answered",
                self.talk.addr,
                counted(self.ledger.pages().taken, "message was", "messages were")
            ))),
        }
    }

    /// Ends it all, with what was not delivered.
    fn failure(&self, mut report: Report, texts: Vec<Vec<u8>>) -> Failure {
        let (sent, taken) = {
            let pages = self.ledger.pages();
            (matches!(pages.end, End::Sent), pages.taken)
        };
        report.unanswered(&self.ledger.close(texts));
        if !sent {
            report.unsent(self.left.clone(), taken);
        }
        report.failure()
    }
}
