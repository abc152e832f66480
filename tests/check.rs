//! `oneloop check`, as people and scripts see it.
#![cfg(feature = "cli")]

use std::net::TcpListener;
use std::process::{Command, Output};

use serde_json::Value;

fn check(args: &[&str]) -> (String, String, Option<i32>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_oneloop"));
    let Output { stdout, stderr, status } =
        command.arg("check").args(args).output().expect("the binary was built");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (text(stdout), text(stderr), status.code())
}

#[test]
fn what_a_check_says_in_words_it_says_in_json_with_units_in_the_keys() {
    let addr = "--listen=127.0.0.1:0";
    let (words, _, _) = check(&["-c", "10", addr]);
    let (json, _, _) = check(&["-c", "10", addr, "--json"]);
    assert_eq!(json.lines().count(), 1, "{json}");
    let object: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(object["connections"], 10);
    let checks = object["checks"].as_array().expect("an array");
    assert!(checks.len() >= 12, "{json}");
    for check in checks {
        let text = |key: &str| check[key].as_str().expect("text").to_string();
        let line = words.lines().find(|line| line.contains(&text("name"))).expect("a line");
        assert!(line.starts_with(&text("status").to_uppercase()), "{line}");
        assert!(!text("found").is_empty() && !text("wanted").is_empty(), "{check}");
        assert!(check["fix"].is_null() || check["fix"].is_string(), "{check}");
        for (key, value) in check.as_object().expect("an object") {
            assert!(value.is_number() == key.contains('_'), "{key}: {value}");
        }
    }
    assert_eq!(checks.last().expect("one")["name"], "listen");
}

#[test]
fn what_fails_is_named_with_a_command_and_the_exit_code_is_1() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = taken.local_addr().expect("it is bound").to_string();
    let (words, said, code) = check(&["-c", "1000m", "-l", &addr]);
    assert_eq!((said.lines().count(), code), (1, Some(1)), "{said}");
    for name in ["descriptors", "listen"] {
        assert!(said.contains(name), "{said}");
        let mut lines = words.lines().skip_while(|line| !line.contains(name));
        assert!(lines.next().expect("a line").starts_with("FAIL"), "{words}");
        assert!(lines.next().expect("a line").contains("wanted: "), "{words}");
        assert!(lines.next().expect("a line").contains("fix: "), "{words}");
    }
    assert!(words.contains("--nofile=1000000024") && words.contains("ss -ltnp"), "{words}");
    drop(taken);

    let (words, said, code) = check(&["-l", "nowhere"]);
    assert_eq!((words.as_str(), said.lines().count(), code), ("", 1, Some(2)), "{said}");
}
