//! `oneloop send` with a person at a terminal, who is played on a pseudo-terminal.
#![cfg(all(feature = "cli", unix))]

#[path = "support/serving.rs"]
#[expect(dead_code, reason = "the tests of the command line need the rest")]
mod serving;

use std::fs::File;
use std::io::{Read, Write};
use std::process::Child;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use nix::pty::{Winsize, openpty};
use nix::sys::termios::{LocalFlags, tcgetattr};
use serving::{PATIENCE, Serving, oneloop, send};

const ANY: &str = "--listen=127.0.0.1:0";
const CTRL_C: &str = "\x03";
const CTRL_D: &str = "\x04";
const CTRL_U: &str = "\x15";
const UP: &str = "\x1b[A";

struct Person {
    child: Child,
    terminal: File,
    /// Kept open: the last one that is closed takes what it showed with it.
    _line: File,
    sees: Receiver<Vec<u8>>,
    seen: String,
}

impl Person {
    fn sits_down(args: &[&str]) -> Self {
        let size = Winsize { ws_row: 24, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };
        let pair = openpty(&size, None).expect("a pseudo-terminal");
        let line = File::from(pair.slave);
        let end = || line.try_clone().expect("a descriptor");
        let mut command = oneloop(&["send"]);
        command.args(args).env("TERM", "xterm").stdin(end()).stdout(end()).stderr(end());
        let child = command.spawn().expect("the binary was built");
        let terminal = File::from(pair.master);
        let mut screen = terminal.try_clone().expect("a descriptor");
        let (show, sees) = channel();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count) = screen.read(&mut buffer) {
                if show.send(buffer[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        let mut person = Self { child, terminal, _line: line, sees, seen: String::new() };
        person.sees("(type lines, Ctrl-D to end)");
        person.sees("> ");
        person
    }

    fn types(&mut self, text: &str) {
        self.terminal.write_all(text.as_bytes()).expect("it is there");
    }

    /// Waits for `text`, behind what was waited for before.
    fn sees(&mut self, text: &str) {
        loop {
            if let Some(at) = self.seen.find(text) {
                self.seen.drain(..at + text.len());
                return;
            }
            let Ok(more) = self.sees.recv_timeout(PATIENCE) else {
                panic!("no {text:?} in {:?}", self.seen)
            };
            self.seen += &String::from_utf8(more).expect("text");
        }
    }

    /// Between two lines the terminal has its own meaning for keys like Ctrl-D.
    fn next_prompt(&mut self) {
        self.sees("\r\n");
        self.sees("> ");
    }

    fn echoes(&self) -> bool {
        let termios = tcgetattr(&self.terminal).expect("a terminal");
        termios.local_flags.contains(LocalFlags::ECHO)
    }

    fn leaves(mut self) -> Option<i32> {
        let code = self.child.wait().expect("our own child").code();
        assert!(self.echoes(), "the terminal is as it was");
        code
    }
}

#[test]
fn lines_that_are_typed_are_messages_and_replies_come_above_the_next() {
    let server = Serving::start(&[ANY, "--service=broadcast"]);
    let mut person = Person::sits_down(&[&server.addr]);
    person.types("half a ");
    person.sees("half a ");
    assert!(!person.echoes(), "the line is edited, not the terminal's own");
    let other = ["-n", "--timeout=100ms", &server.addr, "from elsewhere\x1b[31m"];
    send(&other, b"");
    person.sees("from elsewhere\\u{1b}[31m");
    person.sees("half a ");
    person.types("line\r");
    person.next_prompt();
    person.types(UP);
    person.sees("half a line");
    // In one: nothing that is typed ahead is lost.
    person.types(&format!("{CTRL_U}{CTRL_D}"));
    assert_eq!(person.leaves(), Some(0));
}

#[test]
fn what_cannot_be_sent_is_said_and_the_next_line_is_asked_for() {
    let server = Serving::start(&[ANY, "--service=receipt", "-f", "u8"]);
    for how in [&[][..], &["--wait"]] {
        let mut person = Person::sits_down(&[how, &[&server.addr, "-f", "u8", "-x"]].concat());
        person.types("6x\r");
        person.sees("not sent: 'x' is no hex digit");
        person.next_prompt();
        person.types(&format!("{}\r", "00".repeat(256)));
        person.sees("not sent: ");
        person.next_prompt();
        person.types("68\r");
        person.sees("Msg received");
        person.sees("> ");
        person.types(CTRL_D);
        assert_eq!(person.leaves(), Some(0), "{how:?}");
    }
}

#[test]
fn ctrl_c_leaves_at_once() {
    let server = Serving::start(&[ANY]);
    for how in ["--timeout=10s", "--wait"] {
        let mut person = Person::sits_down(&[&server.addr, how]);
        person.types("half a line");
        person.sees("half a line");
        person.types(CTRL_C);
        assert_eq!(person.leaves(), Some(130), "{how}");
    }
}

#[test]
fn a_server_that_goes_away_ends_it_in_the_middle_of_a_line_and_with_retry_does_not() {
    let server = Serving::start(&[ANY]);
    let mut person = Person::sits_down(&[&server.addr]);
    person.types("half a line");
    person.sees("half a line");
    // Killed, perhaps before it has accepted.
    let addr = server.addr.clone();
    drop(server);
    person.sees(&format!("error: {addr}: "));
    assert_eq!(person.leaves(), Some(1));

    let server = Serving::start(&["-l", "127.77.0.2:0", "--service=receipt"]);
    let addr = server.addr.clone();
    let mut person = Person::sits_down(&[&addr, "--retry=100", "--retry-delay=50ms"]);
    drop(server);
    person.sees(&format!("warning: {addr}: "));
    let _server = Serving::start(&["-l", &addr, "--service=receipt"]);
    person.types("hello\r");
    person.sees("Msg received");
    person.sees("> ");
    person.types(CTRL_D);
    assert_eq!(person.leaves(), Some(0));
}

#[test]
fn lines_that_are_pasted_are_messages_each() {
    let server = Serving::start(&[ANY]);
    for how in [&[][..], &["--wait"]] {
        let mut person = Person::sits_down(&[how, &[&server.addr, "-o", "json"]].concat());
        person.types("one\rtwo\rthree\r");
        for n in 1..=3 {
            person.sees(&format!("{{\"n\":{n},"));
        }
        person.sees("> ");
        person.types(CTRL_D);
        assert_eq!(person.leaves(), Some(0), "{how:?}");
    }
}
