//! Any text as a SPEC: an error that says where, or a framing that keeps its contract.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    oneloop::proto::framing::check::any_spec(data).expect("the same however it is cut");
});
