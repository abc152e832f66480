//! Any bytes as `xml`, cut anywhere: the same documents as whole.
#![no_main]

use oneloop::proto::framing::check;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    check::any_xml(data).expect("the same however it is cut");
});
