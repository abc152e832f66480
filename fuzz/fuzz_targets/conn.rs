//! Whatever happens to a connection in whatever order: it keeps its promises.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    oneloop::proto::conn::check::any_life(data).expect("it keeps its promises");
});
