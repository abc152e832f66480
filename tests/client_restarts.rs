//! A client whose server is killed and started again, twenty times.
//!
//! ```text
//!  client: sent, answered, handed back  ──┐
//!                                         ├─ do the books agree?
//!  server: read                         ──┘
//! ```
//!
//! Each message has a number and is sent once. It must be answered or handed back, and
//! not both; what was answered must have been read; nothing may have been read twice.
//! The server is killed when it has read so much, not when so much time has passed.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use oneloop::{
    Client, ClientError, ClientOptions, Context, Endian, Handle, LengthField, Limits, Retry, Server,
};

const RESTARTS: usize = 20;
const PATIENCE: Duration = Duration::from_secs(20);

fn framing() -> LengthField {
    LengthField::u32(Endian::Big)
}

fn options() -> ClientOptions {
    let retry = Retry::growing(2000, Duration::from_millis(1), Duration::from_millis(20));
    ClientOptions::default().retry(retry).read_timeout(Some(PATIENCE)).write_timeout(Some(PATIENCE))
}

fn number(message: &[u8]) -> u64 {
    let text = std::str::from_utf8(message).expect("digits");
    text.parse().unwrap_or_else(|_| panic!("{text:?} was never sent"))
}

/// What became of messages, as one side sees it.
#[derive(Default)]
struct Book {
    sent: u64,
    answered: Vec<u64>,
    handed_back: Vec<u64>,
}

impl Book {
    fn hand_back(&mut self, error: ClientError) {
        assert!(matches!(error, ClientError::Lost { .. }), "{error}");
        self.handed_back.extend(error.into_unanswered().iter().map(|message| number(message)));
    }

    fn agrees_with(&self, read: &[u64], last: &str) {
        let mut fate: HashMap<u64, &str> = HashMap::new();
        let outcomes = [(&self.answered, "answered"), (&self.handed_back, "handed back")];
        for (list, what) in outcomes {
            for &message in list {
                let before = fate.insert(message, what);
                assert_eq!(before, None, "message {message} is {what} as well");
            }
        }
        for message in 0..self.sent {
            assert!(fate.contains_key(&message), "message {message} is forgotten; {last}");
        }
        assert_eq!(fate.len() as u64, self.sent, "nothing else was sent");
        let mut count: HashMap<u64, u32> = HashMap::new();
        for &message in read {
            let count = count.entry(message).or_default();
            *count += 1;
            assert_eq!(*count, 1, "message {message} was read again");
        }
        for message in &self.answered {
            assert!(count.contains_key(message), "message {message} is answered, and was not read");
        }
        println!(
            "{} sent, {} read, {} answered, {} handed back; {last}",
            self.sent,
            read.len(),
            self.answered.len(),
            self.handed_back.len()
        );
    }
}

/// A server on a thread, which writes down what it reads and can be killed.
struct Mortal {
    /// It reads, and answers no more.
    failing: Arc<AtomicBool>,
    killed: Arc<AtomicBool>,
    handle: Handle,
    thread: JoinHandle<()>,
}

impl Mortal {
    fn start(addr: &str, read: &Arc<Mutex<Vec<u64>>>, tell: &Sender<bool>) -> Self {
        let (addr, read, tell) = (addr.to_string(), read.clone(), tell.clone());
        let killed = Arc::new(AtomicBool::new(false));
        let failing = Arc::new(AtomicBool::new(false));
        let (dies, fails) = (killed.clone(), failing.clone());
        let (ready, started) = channel();
        let thread = thread::spawn(move || {
            let mut server = Server::new().expect("a loop");
            let service = move |cx: &mut Context<'_>, message: &[u8]| {
                read.lock().expect("no panic in a push").push(number(message));
                let answers = !fails.load(Ordering::Relaxed);
                // The last are told to nobody.
                let _ = tell.send(answers);
                if answers { cx.reply(message) } else { Ok(()) }
            };
            let endpoint = server.add(framing(), service, Limits::default()).expect("defaults fit");
            let end = Instant::now() + PATIENCE;
            // A process that another test is about to start holds, for a moment, all that
            // we had open: the listener, too.
            while let Err(error) = server.listen(endpoint, &*addr) {
                assert_eq!(error.kind(), ErrorKind::AddrInUse, "{error}");
                assert!(Instant::now() < end, "{addr}: {error}");
                thread::yield_now();
            }
            ready.send(server.handle()).expect("it is waited for");
            while !dies.load(Ordering::Relaxed) {
                let _ = server.turn(None).expect("a turn");
            }
            // What is queued is lost, as if the process were gone.
            server.shutdown_now();
        });
        let handle = started.recv().expect("it starts");
        Self { failing, killed, handle, thread }
    }

    /// At once, or when it has read something that it will not answer.
    fn kill(self, reads: Option<&Receiver<bool>>) {
        if let Some(reads) = reads {
            self.failing.store(true, Ordering::Relaxed);
            while reads.recv_timeout(PATIENCE).expect("the client goes on") {}
        }
        self.killed.store(true, Ordering::Relaxed);
        // Wakes it.
        let _ = self.handle.counters();
        self.thread.join().expect("it stops");
    }
}

/// Sends and receives on two threads until told to stop.
struct Running {
    stop: Arc<AtomicBool>,
    sending: JoinHandle<u64>,
    receiving: JoinHandle<Book>,
}

impl Running {
    fn start(client: Client<LengthField>) -> Self {
        let (mut sender, mut receiver) = client.split();
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, last) = (stop.clone(), stop.clone());
        let sending = thread::spawn(move || {
            let mut sent = 0_u64;
            while !stopped.load(Ordering::Relaxed) {
                match sender.send(&sent.to_string()) {
                    // Which messages, says the other half.
                    Err(ClientError::Lost { unanswered, .. }) => assert_eq!(unanswered.len(), 0),
                    result => result.expect("sent, or lost"),
                }
                sent += 1;
            }
            // The last connection is there, and has to answer.
            sender.finish();
            sent
        });
        let receiving = thread::spawn(move || {
            let mut book = Book::default();
            loop {
                match receiver.receive() {
                    Ok(Some(reply)) => book.answered.push(number(&reply)),
                    Ok(None) if last.load(Ordering::Relaxed) => return book,
                    // Killed when it had answered all.
                    Ok(None) => {}
                    Err(error) => book.hand_back(error),
                }
            }
        });
        Self { stop, sending, receiving }
    }

    fn stop(self) -> Book {
        self.stop.store(true, Ordering::Relaxed);
        let sent = self.sending.join().expect("it sends");
        Book { sent, ..self.receiving.join().expect("it receives") }
    }
}

/// An address that no connection of anyone's takes while its server is dead, as one of
/// port 0 may be: it lies below the ports that callers are given.
fn address() -> String {
    let first = 20_000 + (std::process::id() % 1000) as u16 * 10;
    let is_free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    static TAKEN: std::sync::atomic::AtomicU16 = std::sync::atomic::AtomicU16::new(0);
    let port = (0..).map(|_| first + TAKEN.fetch_add(1, Ordering::Relaxed)).find(is_free);
    format!("127.0.0.1:{}", port.expect("one of them is free"))
}

/// Waits until `count` messages more were read.
fn more(reads: &Receiver<bool>, count: usize) {
    while reads.try_recv().is_ok() {}
    for _ in 0..count {
        reads.recv_timeout(PATIENCE).expect("the client goes on");
    }
}

#[test]
fn a_server_killed_under_full_load_loses_and_doubles_nothing_unsaid() {
    let read = Arc::new(Mutex::new(Vec::new()));
    let (tell, reads) = channel();
    let addr = address();
    let mut server = Mortal::start(&addr, &read, &tell);
    let running = Running::start(Client::new(&addr, framing(), options()));
    for round in 0..RESTARTS {
        more(&reads, 1 + 97 * round);
        server.kill(Some(&reads).filter(|_| round % 2 == 0));
        server = Mortal::start(&addr, &read, &tell);
    }
    more(&reads, 100);
    let book = running.stop();
    server.kill(None);
    let read = read.lock().unwrap();
    book.agrees_with(&read, &format!("{RESTARTS} restarts"));
    assert!(book.handed_back.len() >= RESTARTS / 2, "{:?}", book.handed_back);
}

#[test]
fn requests_survive_a_server_that_is_killed_between_and_under_them() {
    let read = Arc::new(Mutex::new(Vec::new()));
    let (tell, reads) = channel();
    let addr = address();
    let mut server = Mortal::start(&addr, &read, &tell);
    let (stop, stopped) = channel::<()>();
    let client_addr = addr.clone();
    let requesting = thread::spawn(move || {
        let mut client = Client::new(client_addr, framing(), options());
        let mut book = Book::default();
        while stopped.try_recv().is_err() {
            match client.request(&book.sent.to_string()) {
                Ok(reply) => {
                    assert_eq!(number(&reply), book.sent, "the reply to another");
                    book.answered.push(number(&reply));
                }
                Err(error) => book.hand_back(error),
            }
            book.sent += 1;
        }
        book
    });
    for round in 0..RESTARTS {
        more(&reads, 1 + 10 * round);
        server.kill(Some(&reads).filter(|_| round % 2 == 0));
        server = Mortal::start(&addr, &read, &tell);
    }
    more(&reads, 10);
    stop.send(()).unwrap();
    let book = requesting.join().unwrap();
    server.kill(None);
    book.agrees_with(&read.lock().unwrap(), &format!("{RESTARTS} restarts"));
    // One request is under way at a time, so each kill costs one at most.
    let count = book.handed_back.len();
    assert!((RESTARTS / 2..=RESTARTS).contains(&count), "{:?}", book.handed_back);
}

/// The program with its log in a file: what it cannot write at once into a pipe it counts
/// instead, and here its log is its book.
#[cfg(feature = "cli")]
struct Logging {
    child: std::process::Child,
    path: std::path::PathBuf,
}

#[cfg(feature = "cli")]
impl Logging {
    fn start(addr: &str, path: &std::path::Path) -> Self {
        let log = std::fs::File::create(path).expect("a folder for what is temporary");
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_oneloop"));
        command.args(["serve", "-v", "-f", "u32be", "-l", addr]).stderr(log);
        let child = command.spawn().expect("the binary was built");
        let logging = Self { child, path: path.into() };
        logging.wait_for(1, "[LISTENING]");
        logging
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.path).expect("it was created")
    }

    /// Waits for so many lines with `words` in them.
    fn wait_for(&self, count: usize, words: &str) {
        let end = Instant::now() + PATIENCE;
        while self.said().matches(words).count() < count {
            assert!(Instant::now() < end, "no {count} {words:?} in {}", self.said());
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// All that it said, to the last.
    fn kill(mut self) -> String {
        self.child.kill().expect("our own child");
        self.child.wait().expect("our own child");
        self.said()
    }
}

#[cfg(feature = "cli")]
impl Drop for Logging {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The program shows each message before it answers.
#[cfg(feature = "cli")]
#[test]
fn the_program_killed_by_sigkill_loses_and_doubles_nothing_unsaid() {
    const SHOWN: &str = "[DEBUG] [127.0.0.1:";
    let path = std::env::temp_dir().join(format!("oneloop-book-{}", std::process::id()));
    let addr = address();
    let mut server = Logging::start(&addr, &path);
    let running = Running::start(Client::new(&addr, framing(), options()));
    let mut log = String::new();
    for round in 0..RESTARTS {
        server.wait_for(1 + 10 * round, SHOWN);
        log += &server.kill();
        server = Logging::start(&addr, &path);
    }
    server.wait_for(1, SHOWN);
    let book = running.stop();
    log += &server.kill();
    let shown = |line: &str| {
        let (_, message) = line.split_once(SHOWN)?;
        Some(number(message.split_once("] ")?.1.as_bytes()))
    };
    let read: Vec<u64> = log.lines().filter_map(shown).collect();
    book.agrees_with(&read, &format!("{RESTARTS} restarts by SIGKILL"));
    assert!(!book.answered.is_empty() && !book.handed_back.is_empty());
}
