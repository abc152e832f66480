//! Does the source keep the order that its folders show?

use std::fs;
use std::path::{Path, PathBuf};

fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> =
        Some(root.join(folder)).filter(|path| path.exists()).into_iter().collect();
    let module = root.join(format!("{folder}.rs"));
    if module.exists() {
        found.push(module);
    }
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of src") {
            let path = entry.expect("an entry of a folder").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    assert!(!found.is_empty(), "src/{folder} has no sources");
    found.into_iter().map(|path| (path.clone(), fs::read_to_string(path).expect("text"))).collect()
}

/// Whether `word` stands in `line` as a whole: `Raw` is not in `RawFd`.
fn mentioned(line: &str, word: &str) -> bool {
    let inside = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let (before, after) = (&line[..at], &line[at + word.len()..]);
        let whole_end = !word.ends_with(inside) || !after.starts_with(inside);
        whole_end && !before.ends_with(inside)
    })
}

/// Lines of code in `folder` that mention one of `words`.
fn mentions(folder: &str, words: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in sources(folder) {
        // Tests at the end of a file may reach further.
        let code = text.split("\nmod tests {").next().expect("split gives one piece at least");
        for (number, line) in code.lines().enumerate() {
            let comment = line.trim_start().starts_with("//");
            if !comment && words.iter().any(|word| mentioned(line, word)) {
                found.push(format!("{}:{}: {}", path.display(), number + 1, line.trim()));
            }
        }
    }
    found
}

#[test]
fn proto_knows_no_socket_no_clock_and_no_log() {
    // Addresses are data; what can be opened, read or slept on is not.
    let words = [
        "mio",
        "socket2",
        "TcpStream",
        "TcpListener",
        "UdpSocket",
        "UnixStream",
        "std::io",
        "std::fs",
        "std::thread",
        "Instant",
        "SystemTime",
        "log::",
        "crate::net",
        "crate::services",
        "crate::Server",
    ];
    assert_eq!(mentions("proto", &words), Vec::<String>::new());
}

#[test]
fn net_knows_no_particular_framing_or_service() {
    let words = ["Lines", "LengthField", "AnyFraming", "Raw", "Pair", "services", "Echo"];
    assert_eq!(mentions("net", &words), Vec::<String>::new());
}

#[test]
fn services_know_messages_only() {
    let words = ["crate::net", "mio", "std::net", "std::io", "Lines", "LengthField"];
    assert_eq!(mentions("services", &words), Vec::<String>::new());
}

#[test]
fn the_binary_uses_the_public_api_alone() {
    assert_eq!(mentions("bin", &["#[path", "include!"]), Vec::<String>::new());
}

#[test]
fn the_library_catches_no_signal_sets_no_logger_and_touches_no_process_limit() {
    for folder in ["proto", "net", "services"] {
        let words =
            ["signal", "set_logger", "set_boxed_logger", "set_max_level", "rlimit", "exit("];
        assert_eq!(mentions(folder, &words), Vec::<String>::new());
    }
}
