//! The built program as a server: started, listened to, talked to, ended.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn oneloop(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_oneloop"));
    command.args(args).stdin(Stdio::null());
    command
}

/// A server that runs until it is dropped, and what it said so far.
pub(crate) struct Serving {
    child: Child,
    pub(crate) log: Receiver<String>,
    pub(crate) said: Vec<String>,
    pub(crate) addr: String,
}

impl Serving {
    pub(crate) fn start(args: &[&str]) -> Self {
        let mut command = oneloop(&["serve"]);
        Self::spawn(command.args(args))
    }

    pub(crate) fn spawn(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the binary was built");
        let stderr = child.stderr.take().expect("piped");
        let (line, log) = channel();
        thread::spawn(move || {
            let lines = BufReader::new(stderr).lines();
            lines.map_while(Result::ok).try_for_each(|text| line.send(text))
        });
        let mut serving = Self { child, log, said: Vec::new(), addr: String::new() };
        let listening = serving.hear("[LISTENING]");
        serving.addr = listening.rsplit(' ').next().expect("an address at the end").to_string();
        serving
    }

    /// Waits for a line with `words` in it.
    pub(crate) fn hear(&mut self, words: &str) -> String {
        loop {
            let Ok(line) = self.log.recv_timeout(PATIENCE) else {
                panic!("no {words:?} in {:#?}", self.said)
            };
            self.said.push(line.clone());
            if line.contains(words) {
                return line;
            }
        }
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let client = TcpStream::connect(&self.addr).expect("it listens");
        client.set_read_timeout(Some(PATIENCE)).expect("not zero");
        client
    }

    /// Sends `bytes` and the end, and returns all that comes back.
    pub(crate) fn ask(&self, bytes: &[u8]) -> Vec<u8> {
        let mut client = self.connect();
        client.write_all(bytes).expect("it reads");
        client.shutdown(Shutdown::Write).expect("connected");
        let mut reply = Vec::new();
        client.read_to_end(&mut reply).expect("an orderly end");
        reply
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status();
        assert!(sent.expect("kill is everywhere").success());
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait().expect("our own child") {
                return status;
            }
            thread::sleep(Duration::from_millis(5));
        }
        panic!("it does not end: {:#?}", self.said);
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What `oneloop send` prints, says and exits with, given `input` on stdin.
pub(crate) fn send(args: &[&str], input: &[u8]) -> (String, String, Option<i32>) {
    let mut command = oneloop(&["send"]);
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary was built");
    let mut stdin = child.stdin.take().expect("piped");
    let input = input.to_vec();
    let writing = thread::spawn(move || {
        // It may end before it has read everything.
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().expect("our own child");
    writing.join().expect("it cannot fail");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (text(output.stdout), text(output.stderr), output.status.code())
}
