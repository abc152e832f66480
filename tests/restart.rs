//! A server that ends, or hands its listeners to the next one, under load: nobody who was
//! accepted goes unanswered, and nobody who calls notices.
//!
//! `cargo test` does each a few times. As often as it takes to believe it:
//!
//! ```console
//! $ ONELOOP_STOPS=100 ONELOOP_RESTARTS=20 cargo test --release --test restart -- --nocapture
//! ```
#![cfg(feature = "cli")]

#[path = "support/serving.rs"]
mod serving;

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use command_fds::{CommandFdExt, FdMapping};
use serving::{PATIENCE, Serving, oneloop, send};

/// How often, by the environment or by default.
fn times(name: &str, default: u32) -> u32 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn signal(name: &str, pid: u32) {
    let sent = Command::new("kill").args(["-s", name, &pid.to_string()]).status();
    assert!(sent.expect("kill is everywhere").success(), "no process {pid}");
}

/// The pid in `[RESTART] process 123 is starting`.
fn successor(line: &str) -> u32 {
    let word = line.split(' ').skip_while(|word| *word != "process").nth(1);
    word.and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("no pid in {line:?}"))
}

/// Waits for a line with each of `words`: two processes write, in any order.
fn hear_all<const N: usize>(server: &mut Serving, words: [&str; N]) -> [String; N] {
    let mut found = [const { None }; N];
    while found.contains(&None) {
        let line = server.hear("");
        for (word, found) in words.iter().zip(&mut found) {
            if found.is_none() && line.contains(word) {
                *found = Some(line.clone());
            }
        }
    }
    found.map(Option::unwrap_or_default)
}

#[test]
fn listeners_of_a_service_manager_are_taken_and_who_waits_in_their_queue_is_served() {
    let path = std::env::temp_dir().join(format!("oneloop-handed-{}.sock", std::process::id()));
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let unix = UnixListener::bind(&path).expect("a file of this test");
    let addr = tcp.local_addr().expect("bound").to_string();
    // Before there is a server.
    let mut early = TcpStream::connect(&addr).expect("the kernel takes it");
    early.write_all(b"early\n").expect("the kernel takes it");

    let mut command = oneloop(&["serve"]);
    command.env("LISTEN_FDS", "2").env("LISTEN_FDNAMES", "a:b");
    let mappings = vec![
        FdMapping { parent_fd: tcp.into(), child_fd: 3 },
        FdMapping { parent_fd: unix.into(), child_fd: 4 },
    ];
    command.fd_mappings(mappings).expect("two numbers");
    let mut server = Serving::spawn(&mut command);
    assert_eq!(server.addr, addr, "and not the default of --listen");
    server.hear(&format!("listening on unix:{}", path.display()));
    let mut reply = [0; 6];
    early.set_read_timeout(Some(PATIENCE)).expect("not zero");
    early.read_exact(&mut reply).expect("an echo");
    assert_eq!(&reply, b"early\n");
    let unix = format!("unix:{}", path.display());
    assert_eq!(send(&[&unix, "hello"], b"").0, "hello\n");
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0));
    assert!(path.exists(), "its file is the manager's");
    fs::remove_file(path).expect("it is there");
}

#[test]
fn listeners_for_another_process_are_left_alone() {
    let mut command = oneloop(&["serve", "-l", "127.0.0.1:0"]);
    command.env("LISTEN_FDS", "1").env("LISTEN_PID", "1");
    assert_eq!(Serving::spawn(&mut command).ask(b"mine\n"), b"mine\n");
}

#[test]
fn what_is_no_listener_is_an_error_of_one_line() {
    let mut command = oneloop(&["serve"]);
    command.env("LISTEN_FDS", "1").env_remove("LISTEN_PID");
    let file = fs::File::open("/dev/null").expect("it is everywhere");
    command
        .fd_mappings(vec![FdMapping { parent_fd: file.into(), child_fd: 3 }])
        .expect("one number");
    let output = command.output().expect("the binary was built");
    let said = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.starts_with("error: cannot take the listeners of LISTEN_FDS"), "{said}");
}

/// What became of callers.
#[derive(Default)]
struct Fates {
    answered: AtomicU64,
    refused: AtomicU64,
    reset: AtomicU64,
    unanswered: AtomicU64,
    stop: AtomicBool,
}

impl Fates {
    fn call(&self, addr: &str) {
        let mut client = match TcpStream::connect(addr) {
            Ok(client) => client,
            Err(_) => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                return;
            }
        };
        client.set_read_timeout(Some(PATIENCE)).expect("not zero");
        let mut reply = [0; 6];
        let answer = client.write_all(b"hello\n").and_then(|()| client.read_exact(&mut reply));
        let fate = match answer {
            Ok(()) => &self.answered,
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => &self.unanswered,
            Err(_) => &self.reset,
        };
        fate.fetch_add(1, Ordering::Relaxed);
    }

    /// Calls at a steady rate until it is told to stop. What is late is made up for.
    fn call_on(&self, addr: &str, every: Duration) {
        let mut next = Instant::now();
        while !self.stop.load(Ordering::Relaxed) {
            self.call(addr);
            next += every;
            thread::sleep(next.saturating_duration_since(Instant::now()));
        }
    }
}

/// Ends the callers, also when the test fails.
struct Stop<'a>(&'a Fates);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

const CALLERS: u32 = 8;
const CALLS_PER_SECOND: u32 = 500;

#[test]
fn hot_restarts_at_500_connects_a_second_refuse_and_reset_nobody() {
    let restarts = times("ONELOOP_RESTARTS", 3);
    let mut server = Serving::start(&["-l", "127.0.0.1:0"]);
    let (addr, fates) = (server.addr.clone(), Fates::default());
    let mut pid = server.pid();
    let began = Instant::now();
    thread::scope(|scope| {
        for _ in 0..CALLERS {
            scope.spawn(|| {
                fates.call_on(&addr, Duration::from_secs(1) * CALLERS / CALLS_PER_SECOND)
            });
        }
        let _stop = Stop(&fates);
        for round in 0..restarts {
            signal("USR2", pid);
            let words = ["[RESTART] process", "[LISTENING]", "the new server listens"];
            let [starting, listening, _] = hear_all(&mut server, words);
            assert!(listening.ends_with(&addr), "round {round}: {listening}");
            server.hear("[STOPPED]");
            pid = successor(&starting);
        }
    });
    let rate = fates.answered.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64();
    signal("TERM", pid);
    server.hear("[STOPPED]");
    let count = |fate: &AtomicU64| fate.load(Ordering::Relaxed);
    println!(
        "{restarts} hot restarts at {rate:.0} calls a second: {} answered, {} refused, \
         {} reset, {} unanswered",
        count(&fates.answered),
        count(&fates.refused),
        count(&fates.reset),
        count(&fates.unanswered)
    );
    assert_eq!(
        [count(&fates.refused), count(&fates.reset), count(&fates.unanswered)],
        [0; 3],
        "refused, reset, unanswered"
    );
    // One that is not optimised, or a busy machine, may start too slowly for all of them.
    assert!(rate > f64::from(CALLS_PER_SECOND) / 2.0, "{rate:.0} calls a second");
    assert_eq!(server.wait().code(), Some(0), "the first of them");
}

#[test]
fn a_successor_that_comes_to_nothing_leaves_the_old_server_as_it_was() {
    let path = std::env::temp_dir().join(format!("oneloop-old-{}", std::process::id()));
    // By another process: a child that a test beside this one forks must not have the file
    // open, or it is "busy" and cannot be run.
    let put = |script: &str| {
        let mut shell = Command::new("sh");
        shell.args(["-ec", script, env!("CARGO_BIN_EXE_oneloop")]).arg(&path);
        assert!(shell.status().expect("a shell is everywhere").success());
    };
    put("cp \"$0\" \"$1\"");
    let mut command = Command::new(&path);
    command.args(["serve", "-l", "127.0.0.1:0"]);
    let mut server = Serving::spawn(&mut command);
    // A new version that fails, at the old path.
    put("rm \"$1\"; printf '#!/bin/sh\\nexit 7\\n' > \"$1\"; chmod 755 \"$1\"");
    for _ in 0..2 {
        server.signal("USR2");
        let line = server.hear("[RESTART] process");
        assert!(line.contains("is starting"), "{line}");
        assert!(server.hear("ended, exit status: 7").contains("[ERROR]"));
        assert_eq!(server.ask(b"still here\n"), b"still here\n");
    }
    fs::remove_file(&path).expect("it is there");
    server.signal("USR2");
    server.hear("[RESTART] cannot start");
    assert_eq!(server.ask(b"still here\n"), b"still here\n");
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0));
}

/// Sends numbered lines without a pause and returns the last one that was answered. All
/// before it must have been, once and in order, and the end must be a FIN.
fn pipeline(addr: &str) -> u64 {
    let client = TcpStream::connect(addr).expect("it listens");
    client.set_read_timeout(Some(PATIENCE)).expect("not zero");
    let mut writer = client.try_clone().expect("a descriptor");
    let writing = thread::spawn(move || {
        for number in 1u64.. {
            if writer.write_all(format!("{number}\n").as_bytes()).is_err() {
                return;
            }
            if number % 50 == 0 {
                thread::sleep(Duration::from_millis(1));
            }
        }
    });
    let mut last = 0;
    for line in BufReader::new(&client).lines() {
        match line {
            Ok(line) => assert_eq!(line, (last + 1).to_string(), "after {last}"),
            // The server threw our late messages away for a while, and then hung up.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
            Err(error) => panic!("{error} after {last}"),
        }
        last += 1;
    }
    let _ = client.shutdown(std::net::Shutdown::Both);
    writing.join().expect("it cannot fail");
    last
}

/// What the server accepted is what it logged; each of those must have been answered.
#[test]
fn a_sigterm_under_load_leaves_no_accepted_message_unanswered() {
    let (stops, peers) = (times("ONELOOP_STOPS", 3), 8);
    let mut messages = 0;
    for round in 0..stops {
        let path =
            std::env::temp_dir().join(format!("oneloop-stop-{}-{round}.log", std::process::id()));
        let log = fs::File::create(&path).expect("a file of this test");
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = free.local_addr().expect("bound").to_string();
        drop(free);
        let mut command = oneloop(&["serve", "-v", "-l", &addr]);
        let mut child = command.stderr(log).spawn().expect("the binary was built");
        let end = Instant::now() + PATIENCE;
        while TcpStream::connect(&addr).is_err() {
            assert!(Instant::now() < end, "it does not listen");
            thread::sleep(Duration::from_millis(5));
        }
        let answered: u64 = thread::scope(|scope| {
            let clients: Vec<_> = (0..peers).map(|_| scope.spawn(|| pipeline(&addr))).collect();
            thread::sleep(Duration::from_millis(u64::from(50 + round % 10 * 7)));
            signal("TERM", child.id());
            clients.into_iter().map(|client| client.join().expect("all in order")).sum()
        });
        assert_eq!(child.wait().expect("our own child").code(), Some(0));
        let log = fs::read_to_string(&path).expect("text");
        fs::remove_file(&path).expect("it is there");
        let accepted = log.lines().filter(|line| line.contains("[DEBUG]")).count() as u64;
        assert!(!log.contains("[LOG]"), "a line is missing");
        assert_eq!(answered, accepted, "round {round}");
        messages += answered;
    }
    println!("{stops} SIGTERMs under load: {messages} messages accepted, all answered");
}
