//! Any bytes as `json`, cut anywhere: the same values as whole.
#![no_main]

use oneloop::Json;
use oneloop::proto::framing::check;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let framing = Json::default().max(4096).depth(16);
    check::any_cuts(&framing, data).expect("the same however it is cut");
});
