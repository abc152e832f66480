//! Any bytes as `json`, cut anywhere: the same values as whole.
#![no_main]

use oneloop::proto::framing::check;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    check::any_json(data).expect("the same however it is cut");
});
