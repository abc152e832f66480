//! What fuzzers begin with, and what they have found: every file in `fuzz/seeds`, through
//! the same function that its fuzz target calls.

use std::error::Error;
use std::fs;
use std::path::Path;

use oneloop::proto::conn;
use oneloop::proto::framing::check::{self, Difference};

type Check = fn(&[u8]) -> Result<(), Box<dyn Error>>;

/// What a target calls, with the errors of all of them.
fn framing(
    check: fn(&[u8]) -> Result<(), Box<Difference>>,
    data: &[u8],
) -> Result<(), Box<dyn Error>> {
    check(data).map_err(Into::into)
}

const TARGETS: &[(&str, Check)] = &[
    ("framings", |data| framing(check::any_framing, data)),
    ("json", |data| framing(check::any_json, data)),
    ("xml", |data| framing(check::any_xml, data)),
    #[cfg(feature = "http")]
    ("http", |data| framing(check::any_http, data)),
    ("spec", |data| framing(check::any_spec, data)),
    ("conn", |data| Ok(conn::check::any_life(data)?)),
];

#[test]
fn every_seed_keeps_the_promise_of_its_target() {
    for (target, check) in TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
        let mut count = 0;
        for seed in fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            let path = seed.expect("a directory").path();
            let data = fs::read(&path).expect("a file");
            if let Err(difference) = check(&data) {
                panic!("{}: {difference}", path.display());
            }
            count += 1;
        }
        assert!(count > 0, "{target} has no seeds");
    }
}

/// A fuzz target that nobody runs on its seeds would rot.
#[test]
fn every_fuzz_target_has_its_seeds() {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/Cargo.toml");
    let manifest = fs::read_to_string(manifest).expect("a package for fuzzing");
    let targets = manifest.lines().filter_map(|line| line.strip_prefix("path = \"fuzz_targets/"));
    for target in targets.map(|rest| rest.trim_end_matches(".rs\"")) {
        let known = TARGETS.iter().any(|(name, _)| *name == target);
        assert!(known || (target == "http" && !cfg!(feature = "http")), "{target}");
    }
}
