//! Any bytes as `http`, of either side, cut anywhere: the same messages as whole.
#![no_main]

use oneloop::proto::framing::check;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    check::any_http(data).expect("the same however it is cut");
});
