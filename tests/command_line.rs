//! The program as its users meet it: exit codes, error lines, log lines, signals.
#![cfg(feature = "cli")]

#[path = "support/serving.rs"]
mod serving;

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Output;
use std::time::{Duration, Instant};

use serving::{PATIENCE, Serving, oneloop, send};

/// The exit code and the one line of an error.
fn refused(output: &Output) -> (Option<i32>, String) {
    let said = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = said.lines().collect();
    let [line] = lines[..] else { panic!("not one line: {said}") };
    assert!(line.starts_with("error: "), "{line}");
    (output.status.code(), line.to_string())
}

#[test]
fn a_wrong_option_is_one_line_with_the_value_the_reason_and_what_would_be_right() {
    #[rustfmt::skip]
    let cases: &[(&[&str], &[&str])] = &[
        (&["--framing", "lnes"],              &["lnes", "no framing", "lines, lines:lf"]),
        (&["-f", "u32be,mxa=5"],              &["mxa", "column 7", "adjust, max, offset, strip"]),
        (&["-f", "u16be,max=1m"],             &["u16be", "1048576", "65535"]),
        (&["-f", "u16be", "--max-message", "1m"], &["--framing u16be", "1048576", "65535"]),
        (&["--reply-framing", "u8,max=300"],  &["--reply-framing", "u8,max=300", "column 8", "300", "255"]),
        (&["-f", "u32be,offset=2,strip=7"],   &["strip=7", "6 bytes"]),
        (&["--max-message", "ten"],           &["'ten'", "--max-message", "64k"]),
        (&["--max-connections", "-1"],        &["-1"]),
        (&["--max-connections", "0"],         &["0 connections", "1 to"]),
        (&["--max-connections", "9m"],        &["9000000", "descriptors", "at most"]),
        (&["--output-low", "128k"],           &["131072", "65536"]),
        (&["--output-max", "1k"],             &["1024", "131073"]),
        (&["--receive-buffer", "4g"],         &["--receive-buffer", "4294967296", "1 to"]),
        (&["--send-buffer", "4g"],            &["--send-buffer", "4294967296", "1 to"]),
        (&["-f", "raw,max=0"],                &["raw,max=0", "column 9", "1 to"]),
        (&["--idle-timeout", "0"],            &["'0'", "off"]),
        (&["--frame-timeout", "soon"],        &["'soon'", "30s"]),
        (&["--drain-timeout", "off"],         &["'off'", "30s"]),
        (&["--service", "ehco"],              &["'ehco'", "echo"]),
        (&["--preset", "onelien"],            &["'onelien'", "exists: 'oneline'", "possible values: msgsocket"]),
        (&["--preset", "sized", "--preset", "oneline"], &["--preset", "multiple"]),
        (&["--preset", "sized", "-f", "u32"], &["--framing", "'u32'", "no framing"]),
        (&["--backlog", "0"],                 &["0", "1..=65535"]),
        (&["--messages", "0"],                &["0", "1.."]),
        (&["--listen", "nowhere"],            &["'nowhere'", "host:port", "127.0.0.1:7000"]),
        (&["-l", "127.0.0.1:99999"],          &["127.0.0.1:99999", "host:port"]),
        (&["-l", "::1:7000"],                 &["::1:7000", "[v6]:port"]),
        (&["-l", ""],                         &["''", "host:port"]),
        (&["-l", "unix:"],                    &["unix:", "unix:PATH"]),
        (&["-l", "unix:/tmp/x", "--unix-mode", "999"], &["--unix-mode", "999", "660"]),
        (&["--lisetn", "127.0.0.1:0"],        &["--lisetn", "--listen"]),
        (&["-v", "-q"],                       &["--verbose", "--quiet"]),
    ];
    for (args, words) in cases {
        let output = oneloop(&["serve"]).args(*args).output().expect("the binary was built");
        let (code, line) = refused(&output);
        assert_eq!(code, Some(2), "{args:?}: {line}");
        for word in *words {
            assert!(line.contains(word), "{args:?}: no {word:?} in: {line}");
        }
        assert!(output.stdout.is_empty(), "{args:?}");
    }
    let (code, line) = refused(&oneloop(&["sevre"]).output().expect("the binary was built"));
    assert!(code == Some(2) && line.contains("serve"), "{line}");
}

#[test]
fn what_fails_here_and_now_is_one_line_and_exits_with_1() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = taken.local_addr().expect("it is bound").to_string();
    for (addr, words) in [(addr.as_str(), "ss -ltnp"), ("203.0.113.1:7000", "ip addr")] {
        let output = oneloop(&["serve", "-q", "-l", addr]).output().expect("the binary was built");
        let (code, line) = refused(&output);
        assert_eq!(code, Some(1), "{line}");
        assert!(line.contains(addr) && line.contains(words), "{line}");
    }
}

#[test]
fn help_fits_on_a_screen_or_two_and_goes_to_stdout() {
    for args in [
        &["--help"][..],
        &["serve", "--help"],
        &["serve", "-h"],
        &["presets", "-h"],
        &["send", "-h"],
        &["explain", "-h"],
        &["check", "-h"],
    ] {
        let output = oneloop(args).output().expect("the binary was built");
        let text = String::from_utf8(output.stdout).expect("text");
        assert!(output.status.success() && output.stderr.is_empty(), "{args:?}");
        let (lines, longest) = (text.lines().count(), text.lines().map(str::len).max());
        // The limits of a server take a second one.
        let most = if args[0] == "serve" { 90 } else { 60 };
        assert!(lines <= most && longest <= Some(100), "{args:?}: {lines} lines, {longest:?} wide");
    }
    let bare = oneloop(&[]).output().expect("the binary was built");
    assert_eq!(bare.status.code(), Some(2));
}

#[test]
fn services_and_framings_are_chosen_by_flag_or_environment_and_flags_win() {
    let any = "--listen=127.0.0.1:0";
    assert_eq!(Serving::start(&[any]).ask(b"hello\r\n"), b"hello\n");
    assert_eq!(Serving::start(&[any, "-f", "u16be"]).ask(b"\0\x02hi"), b"\0\x02hi");
    let receipt =
        Serving::start(&[any, "--service", "receipt", "-f", "u32le", "--reply-framing", "raw"]);
    assert_eq!(receipt.ask(b"\x02\0\0\0hi"), b"Msg received");
    assert_eq!(Serving::start(&[any, "--service", "sink"]).ask(b"hello\n"), b"");

    let mut command = oneloop(&["serve", "-l", "127.0.0.1:0"]);
    command.env("ONELOOP_FRAMING", "u8").env("ONELOOP_SERVICE", "receipt");
    let server = Serving::spawn(command.args(["--service", "echo"]));
    assert_eq!(server.ask(b"\x02hi"), b"\x02hi");

    let mut bye = Serving::start(&[any, "--closing-word", "bye"]);
    assert_eq!(bye.ask(b"one\nbye\nthree\n"), b"one\nbye\n");
    assert!(bye.hear("[CLOSED]").ends_with(": app_close"));

    let mut two = Serving::start(&[any, "--messages", "2"]);
    assert_eq!(two.ask(b"one\ntwo\nthree\n"), b"one\ntwo\n");
    assert!(two.hear("[CLOSED]").ends_with(": app_close"));

    let mut oneline = Serving::start(&[any, "--service", "oneline"]);
    assert_eq!(oneline.ask(b"ping\nhello\nshutdown\n"), b"pong\nhello\n");
    assert_eq!(oneline.wait().code(), Some(0));

    let two = Serving::start(&[any, "--listen=[::1]:0", "--service", "broadcast"]);
    let mut hearer = two.connect();
    let mut talker = two.connect();
    // Both must be accepted before the first word.
    hearer.write_all(b"I am here\n").expect("it reads");
    let mut reply = [0; 10];
    talker.read_exact(&mut reply).expect("the others hear it");
    talker.write_all(b"hello all\n").expect("it reads");
    hearer.read_exact(&mut reply).expect("the others hear it");
    assert_eq!(&reply, b"hello all\n");
}

#[test]
fn a_flag_beside_a_preset_overrides_its_column_and_same_replies_follow() {
    let preset = |flags: &[&str]| Serving::start(&[&["--listen=127.0.0.1:0"], flags].concat());
    assert_eq!(preset(&["--preset=sized"]).ask(b"\0\0\0\x02hi"), b"\0\0\0\x0cMsg received");
    let other = preset(&["--preset=sized", "-f", "u16le"]);
    assert_eq!(other.ask(b"\x02\0hi"), b"\x0c\0Msg received");
    let echo = preset(&["--preset=sized", "--service=echo", "--reply-framing=lines"]);
    assert_eq!(echo.ask(b"\0\0\0\x02hi"), b"hi\n");

    let header = |text: &str| format!("{:<64}{text}", text.len()).into_bytes();
    let mut asked = header("hi");
    asked.extend([header("!DISCONNECT"), header("too late")].concat());
    let bare = preset(&["--preset=header64"]);
    assert_eq!(bare.ask(&asked), b"Msg receivedMsg received");
    let same = preset(&["--preset=header64", "--reply-framing=same", "--closing-word=hi"]);
    assert_eq!(same.ask(&asked), header("Msg received"));
    let bare_lines = preset(&["--preset=header64", "--framing=lines"]);
    assert_eq!(bare_lines.ask(b"hi\n"), b"Msg received");
}

/// The one client of `oneline` shuts nobody out for good, and more can be let in.
#[test]
fn a_second_client_of_a_one_client_server_waits_and_is_then_served() {
    let mut server = Serving::start(&["--listen=127.0.0.1:0", "--preset=oneline"]);
    let mut first = server.connect();
    first.write_all(b"ping\n").expect("it reads");
    first.read_exact(&mut [0; 5]).expect("a pong");
    let mut second = server.connect();
    second.write_all(b"hello\n").expect("the kernel reads");
    // What the second said lies in the kernel while the first is served.
    for _ in 0..100 {
        first.write_all(b"ping\n").expect("it reads");
        first.read_exact(&mut [0; 5]).expect("a pong");
    }
    second.set_nonblocking(true).expect("a socket");
    assert!(second.read(&mut [0; 6]).is_err(), "the first is still there");
    second.set_nonblocking(false).expect("a socket");
    drop(first);
    let mut reply = [0; 6];
    second.read_exact(&mut reply).expect("its turn has come");
    assert_eq!(&reply, b"hello\n");
    assert!(server.hear("] hello").contains("[INFO]"), "presets show messages");

    let two = Serving::start(&["--listen=127.0.0.1:0", "--preset=oneline", "--max-connections=2"]);
    let mut clients = [two.connect(), two.connect()];
    for client in &mut clients {
        client.write_all(b"ping\n").expect("it reads");
        client.read_exact(&mut [0; 5]).expect("both are served at once");
    }
}

#[test]
fn the_log_has_the_lines_of_the_tutorials_and_no_raw_byte_of_a_peer() {
    let mut server = Serving::start(&["-l", "127.0.0.1:0", "-v", "--max-message", "300"]);
    assert!(
        server.said[0].ends_with("[INFO] [STARTING] server is starting..."),
        "{:?}",
        server.said
    );
    assert!(server.said[1].contains("[MEMORY] ") && server.said[1].contains(" MiB at most"));
    assert!(server.said[2].contains("[LISTENING] Server is listening on 127.0.0.1:"));
    let client = server.connect();
    let peer = client.local_addr().expect("connected").to_string();
    let line = server.hear("[NEW CONNECTION]");
    assert!(line.ends_with(&format!("[NEW CONNECTION] {peer} connected.")), "{line}");
    assert!(server.hear("[ACTIVE CONNECTIONS]").ends_with("[ACTIVE CONNECTIONS] 1"));

    let mut writer = &client;
    writer.write_all(b"evil\x1b[2J\rtext \"\\\n").expect("it reads");
    let line = server.hear("evil");
    assert!(line.ends_with(&format!(r#"[{peer}] evil\x1b[2J\rtext "\"#)), "{line}");
    writer.write_all(&[b"x".repeat(300), b"\n".to_vec()].concat()).expect("it reads");
    assert!(server.hear("xxx").ends_with(&format!("{}... (300 bytes)", "x".repeat(256))));
    writer.write_all(&[b"y".repeat(302), b"\n".to_vec()].concat()).expect("it reads");
    assert!(server.hear("[BAD INPUT]").contains("limit of 300 bytes"));
    client.shutdown(Shutdown::Write).expect("connected");
    assert!(server.hear("[CLOSED]").ends_with(&format!("{peer}: peer_eof")));
}

#[test]
fn one_signal_drains_and_exits_with_0() {
    for signal in ["TERM", "INT"] {
        let mut server = Serving::start(&["-l", "127.0.0.1:0"]);
        let mut idle = server.connect();
        let mut begun = server.connect();
        begun.write_all(b"first\nbeg").expect("it reads");
        let mut reply = [0; 6];
        begun.read_exact(&mut reply).expect("an echo");
        server.signal(signal);
        server.hear("[STOPPING] 2 connections open");
        assert_eq!(idle.read(&mut reply).expect("a FIN"), 0, "an idle one may go at once");
        drop(idle);
        begun.write_all(b"in\n").expect("it still reads");
        begun.read_exact(&mut reply).expect("what was begun is answered");
        assert_eq!(begun.read(&mut [0]).expect("a FIN"), 0);
        drop(begun);
        server.hear("[STOPPED]");
        assert_eq!(server.wait().code(), Some(0), "SIG{signal}");
    }
}

#[test]
fn a_second_signal_ends_it_at_once() {
    for (signal, code) in [("TERM", 143), ("INT", 130)] {
        let mut server = Serving::start(&["-l", "127.0.0.1:0"]);
        let mut begun = server.connect();
        begun.write_all(b"first\nnever finished").expect("it reads");
        begun.read_exact(&mut [0; 6]).expect("an echo");
        server.signal(signal);
        server.hear("[STOPPING]");
        server.signal(signal);
        assert_eq!(server.wait().code(), Some(code));
    }
}

#[test]
fn a_killed_server_starts_again_on_its_port_at_once() {
    let mut server = Serving::start(&["-l", "127.0.0.1:0"]);
    let addr = server.addr.clone();
    for round in 0..20 {
        // Connections in every state: one in use, one that we closed, one that it did.
        let mut used = server.connect();
        used.write_all(b"hello\n").expect("it reads");
        used.read_exact(&mut [0; 6]).expect("an echo");
        drop(server.connect());
        assert_eq!(server.ask(b"bye\n"), b"bye\n", "round {round}");
        server.signal("KILL");
        server.wait();
        server = Serving::start(&["-l", &addr]);
        assert_eq!(server.addr, addr, "round {round}");
    }
    assert_eq!(server.ask(b"still the same\n"), b"still the same\n");
}

#[test]
fn five_thousand_connects_in_a_burst_are_all_served() {
    let callers = 5_000;
    if rlimit::increase_nofile_limit(u64::MAX).unwrap_or(0) < callers + 100 {
        eprintln!("skipped: this process may not have {callers} descriptors");
        return;
    }
    let server = Serving::start(&["-l", "127.0.0.1:0", "--max-connections", "5k"]);
    let mut slowest = Duration::ZERO;
    let mut clients: Vec<TcpStream> = (0..callers)
        .map(|n| {
            let asked = Instant::now();
            let client = TcpStream::connect(&server.addr);
            slowest = slowest.max(asked.elapsed());
            client.unwrap_or_else(|error| panic!("caller {n}: {error}"))
        })
        .collect();
    assert!(slowest < Duration::from_secs(1), "{slowest:?}: a SYN was dropped and sent again");
    for client in &mut clients {
        client.write_all(b"hello\n").expect("it reads");
    }
    for client in &mut clients {
        client.set_read_timeout(Some(PATIENCE)).expect("not zero");
        let mut reply = [0; 6];
        client.read_exact(&mut reply).expect("each is served");
        assert_eq!(&reply, b"hello\n");
    }
}

#[test]
fn serve_and_send_meet_at_a_unix_socket_and_its_file_goes_with_the_server() {
    let path = std::env::temp_dir().join(format!("oneloop-{}.sock", std::process::id()));
    let addr = format!("unix:{}", path.display());
    for end in ["KILL", "TERM"] {
        let mut server = Serving::start(&["-l", &addr, "--unix-mode=600"]);
        assert_eq!(server.addr, addr);
        assert_eq!(send(&[&addr, "hello"], b""), ("hello\n".into(), String::new(), Some(0)));
        assert!(server.hear("[CLOSED]").contains("unix#1: peer_eof"));
        let second = oneloop(&["serve", "-q", "-l", &addr]).output().expect("the binary was built");
        let (code, line) = refused(&second);
        assert!(code == Some(1) && line.contains("a server answers there"), "{line}");
        server.signal(end);
        server.wait();
        assert_eq!(path.exists(), end == "KILL", "after SIG{end}");
    }
    assert!(fs::metadata(&path).is_err());
}

/// The table of limits, the exit codes and the defaults: as the program has them.
#[test]
fn the_readme_has_every_limit_with_its_default() {
    let readme = include_str!("../README.md");
    let output = oneloop(&["serve", "--help"]).output().expect("the binary was built");
    let help = String::from_utf8(output.stdout).expect("text");
    let limits = help.split("Limits:").nth(1).expect("a section of limits");
    let limits = limits.split("\nSPEC").next().expect("split gives one piece at least");
    // Help wraps its lines; a flag begins a new one.
    let flat = limits.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut seen = 0;
    for flag in flat.split(" --").map(|text| text.trim_start_matches("--")) {
        let name = flag.split(' ').next().expect("split gives one piece at least");
        let default = flag.split("[default: ").nth(1).and_then(|text| text.split(']').next());
        let default = default.unwrap_or_else(|| panic!("--{name} has no default: {flag}"));
        let row = readme.lines().find(|line| line.contains(&format!("| `--{name}`")));
        let row = row.unwrap_or_else(|| panic!("--{name} is not in the table of limits"));
        assert!(row.contains(&format!("| {default} |")), "--{name} is {default} by default: {row}");
        seen += 1;
    }
    assert_eq!(seen, 19, "{flat}");
}

#[test]
fn explain_shows_a_framing_and_replays_a_capture() {
    let explain = |args: &[&str]| {
        let output = oneloop(&["explain"]).args(args).output().expect("the binary was built");
        (String::from_utf8(output.stdout).expect("text"), output.status.code())
    };
    let (text, code) = explain(&["u16be,offset=2,adjust=-4", "--connections=100"]);
    assert_eq!(code, Some(0));
    for line in
        ["hex     00 00 00 09  68 65 6c 6c 6f", "up to 65531 bytes", "for 100 idle connections"]
    {
        assert!(text.contains(line), "no {line:?} in {text}");
    }
    assert!(text.lines().all(|line| line.len() <= 100 && line.trim_end() == line), "{text}");

    let file = std::env::temp_dir().join(format!("oneloop-{}.capture", std::process::id()));
    fs::write(&file, b"one\ntwo\r\nthr").expect("a file of this test");
    let (text, code) = explain(&["lines", file.to_str().expect("text")]);
    fs::remove_file(&file).expect("it was written");
    assert_eq!(code, Some(0));
    for line in [
        "0         3 bytes  one",
        "4         3 bytes  two",
        "3 bytes into message 3",
        "however its first 12 bytes are cut",
    ] {
        assert!(text.contains(line), "no {line:?} in {text}");
    }
    assert_eq!(explain(&["u32"]).1, Some(2));
    assert_eq!(explain(&["lines", "/nowhere"]).1, Some(1));
}

#[test]
fn the_readme_has_every_preset_and_every_service() {
    let readme = include_str!("../README.md");
    let output = oneloop(&["presets"]).output().expect("the binary was built");
    let table = String::from_utf8(output.stdout).expect("text");
    let rows: Vec<Vec<&str>> = table.lines().map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(rows[0][..4], ["PRESET", "FRAMING", "REPLIES", "SERVICE"]);
    assert_eq!(rows.len(), 8, "{table}");
    for row in &rows[1..] {
        assert!(readme.contains(&format!("| `oneloop serve --preset {}` |", row[0])), "{row:?}");
        assert!(readme.contains(&format!("| `{}` |", row[3])), "{row:?}");
    }
}

/// What the README shows of each framing is what it writes.
#[test]
fn the_readme_has_every_word_with_what_it_writes() {
    use oneloop::{AnyFraming, Encode};

    let readme = include_str!("../README.md");
    for word in AnyFraming::WORDS {
        let row = readme.lines().find(|line| line.starts_with(&format!("| `{word}` |")));
        let row = row.unwrap_or_else(|| panic!("{word} is not in the table of framings"));
        let spec = word.replace("BYTES", r"\x3b\n").replace("fixed:N", "fixed:5").replace('N', "8");
        let framing: AnyFraming = spec.parse().expect("a word, filled in");
        let framing = framing.for_client("localhost");
        let mut wire = Vec::new();
        let header = if *word == "modbus" { &b"\0\0\0\0\0\0"[..] } else { b"" };
        let message = [header, b"hello"].concat();
        framing.encode(&message, &mut wire).expect("a short message");
        let hex: String = wire.iter().map(|byte| format!("{byte:02x}")).collect();
        let shown: String = row.rsplit('`').nth(1).expect("a sample").split(' ').collect();
        if *word == "http" {
            // Its head is words.
            assert!(hex.ends_with(&shown) && shown.len() > 10, "{word}: {hex}");
            continue;
        }
        assert_eq!(shown, hex, "{word}");
    }
    let rows = readme.lines().filter(|line| line.contains("68656c6c6f")).count();
    assert_eq!(rows, AnyFraming::WORDS.len());
}
