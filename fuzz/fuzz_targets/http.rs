//! Any bytes as `http`, of either side, cut anywhere: the same messages as whole. The
//! first byte chooses the side.
#![no_main]

use oneloop::Http;
use oneloop::proto::framing::check;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((side, data)) = data.split_first() else { return };
    let framing = Http::default().max(4096);
    let framing = if side % 2 == 0 { framing } else { framing.client("a") };
    check::any_cuts(&framing, data).expect("the same however it is cut");
});
