//! The fault catalogue against the built program: the quick rows of tests/faults, whose
//! `run.py` has all of them, and the long ones.
//!
//! Without python3 the test says `skipped` and passes.
#![cfg(all(feature = "cli", target_os = "linux"))]

use std::io::{ErrorKind, Write};
use std::path::Path;
use std::process::{Command, Stdio};

#[test]
fn the_quick_rows_of_the_fault_catalogue_pass() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults/run.py");
    let mut command = Command::new("python3");
    // Its modules lie beside it, and leave no compiled files there.
    command.arg("-B").arg(script).args(["--quick", "--binary", env!("CARGO_BIN_EXE_oneloop")]);
    let ran = match command.arg("all").stdin(Stdio::null()).output() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            // Past the test harness, which would keep it to itself.
            let _ = writeln!(std::io::stderr(), "skipped: the fault catalogue: no python3");
            return;
        }
        ran => ran.expect("python3 can be run"),
    };
    let said = [ran.stdout, ran.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(ran.status.success(), "{}", said.concat());
}
