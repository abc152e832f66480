//! The log of the built program on a full disk, at the limit of a file, into a pipe that
//! nobody reads or nobody has: the server serves, and says later what is missing.
#![cfg(feature = "cli")]

#[expect(dead_code, reason = "other tests of the program need the rest")]
#[path = "support/serving.rs"]
mod serving;

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serving::{PATIENCE, Serving, oneloop};

/// A server whose log goes to `stderr`, so that it has to be found by its port.
struct Blind {
    child: Child,
    addr: String,
}

impl Blind {
    fn start(command: &mut Command, args: &[&str], stderr: Stdio) -> Self {
        // Whoever takes this port before the server does makes it fail, not lie.
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = free.local_addr().expect("bound").to_string();
        drop(free);
        command.args(["serve", "-v", "-l", &addr]).args(args).stdin(Stdio::null());
        let child = command.stderr(stderr).spawn().expect("the binary was built");
        Self { child, addr }
    }

    fn ask(&self, rounds: usize) {
        let end = Instant::now() + PATIENCE;
        let mut client = loop {
            match TcpStream::connect(&self.addr) {
                Ok(client) => break client,
                Err(error) => assert!(Instant::now() < end, "{error}"),
            }
            thread::sleep(Duration::from_millis(5));
        };
        client.set_read_timeout(Some(PATIENCE)).expect("not zero");
        let line = [&[b'x'; 299][..], b"\n"].concat();
        let mut reply = vec![0; line.len()];
        for round in 0..rounds {
            client.write_all(&line).expect("it reads");
            client.read_exact(&mut reply).unwrap_or_else(|error| panic!("{round}: {error}"));
            assert_eq!(reply, line);
        }
    }

    /// A signal ends it as ever.
    fn stop(mut self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").arg(&pid).status().expect("kill is everywhere").success());
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait().expect("our own child") {
                return assert_eq!(status.code(), Some(0));
            }
            thread::sleep(Duration::from_millis(5));
        }
        panic!("it does not end");
    }
}

impl Drop for Blind {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn on_a_full_disk_it_serves_and_ends_in_order() {
    let Ok(full) = OpenOptions::new().write(true).open("/dev/full") else { return };
    let server = Blind::start(&mut oneloop(&[]), &[], full.into());
    server.ask(100);
    server.stop();
}

#[test]
fn a_log_file_at_its_limit_does_not_end_the_server() {
    if Command::new("prlimit").arg("--version").output().is_err() {
        eprintln!("skipped: no prlimit here");
        return;
    }
    let path = std::env::temp_dir().join(format!("oneloop-{}.log", std::process::id()));
    let file = File::create(&path).expect("a file of this test");
    let mut limited = Command::new("prlimit");
    limited.args(["--fsize=5000", "--", env!("CARGO_BIN_EXE_oneloop")]);
    let server = Blind::start(&mut limited, &[], file.into());
    server.ask(100);
    server.stop();
    let log = fs::read(&path).expect("it was created");
    fs::remove_file(&path).expect("it is there");
    assert!((4000..=5000).contains(&log.len()), "{} bytes", log.len());
}

#[test]
fn a_pipe_that_nobody_reads_holds_nobody_up_and_the_missing_lines_are_counted() {
    let mut server = Blind::start(&mut oneloop(&[]), &[], Stdio::piped());
    // 64 KiB of pipe, and 300 lines of 300 bytes or more.
    server.ask(500);
    let stderr = server.child.stderr.take().expect("piped");
    let mut lines = BufReader::new(stderr).lines().map_while(Result::ok);
    let last = lines.by_ref().take(100).last().expect("lines from before");
    assert!(last.contains("[DEBUG]"), "{last}");
    server.ask(500);
    let note = lines.find(|line| line.contains("[LOG]"));
    let note = note.expect("it says that lines are missing");
    assert!(note.ends_with("lines could not be written"), "{note}");
    drop(lines);
    // Now nobody has the other end.
    server.ask(100);
    server.stop();
}

#[test]
fn without_stderr_at_all_it_serves() {
    let mut shell = Command::new("sh");
    shell.args(["-c", "exec \"$0\" \"$@\" 2>&-", env!("CARGO_BIN_EXE_oneloop")]);
    let server = Blind::start(&mut shell, &[], Stdio::null());
    server.ask(100);
    server.stop();
}

#[test]
fn a_wrong_option_on_a_full_disk_still_exits_with_2() {
    let Ok(full) = OpenOptions::new().write(true).open("/dev/full") else { return };
    let status = oneloop(&["serve", "--memory", "1"]).stderr(full).status();
    assert_eq!(status.expect("the binary was built").code(), Some(2));
}

#[test]
fn a_flood_of_bad_lines_is_ten_lines_a_second_and_the_number_of_the_others() {
    let mut server = Serving::start(&["-l", "127.0.0.1:0", "-f", "lines,max=8"]);
    let mut client = server.connect();
    client.write_all(&b"much too long\n".repeat(20_000)).expect("it reads");
    client.write_all(b"good\n").expect("it reads");
    client.read_exact(&mut [0; 5]).expect("an echo");
    drop(client);
    let note = server.hear("events not shown");
    assert!(note.contains("[WARN] [CONNECTIONS]"), "{note}");
    let said = server.said.iter().filter(|line| line.contains("[BAD INPUT]")).count();
    assert!((1..=100).contains(&said), "{said}");
}
