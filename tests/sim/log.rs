//! The log, as far as a peer can reach into it: one record is one line of printable
//! ASCII, and no longer than 256 bytes (I14). What breaks that is told after the turn;
//! so is a panic that the loop took for one of its service's.

use std::cell::{Cell, RefCell};
use std::sync::Once;

use super::shrink;

thread_local! {
    static WRONG: RefCell<Option<String>> = const { RefCell::new(None) };
    static RECORDS: Cell<u64> = const { Cell::new(0) };
}

/// Keeps the first of what was wrong.
fn note(text: String) {
    WRONG.with_borrow_mut(|wrong| {
        wrong.get_or_insert(text);
    });
}

/// What was wrong since the last time.
pub(crate) fn take_wrong() -> Option<String> {
    WRONG.with(|wrong| wrong.borrow_mut().take())
}

/// How many records were checked since the last time.
pub(crate) fn take_records() -> u64 {
    RECORDS.take()
}

/// A line that goes to the log.
pub(crate) fn check(line: &str) {
    RECORDS.set(RECORDS.get() + 1);
    if line.len() > 256 || !line.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        note(format!("I14: {} bytes in one record: {line:?}", line.len()));
    }
}

struct Checker;

impl log::Log for Checker {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        check(&record.args().to_string());
    }

    fn flush(&self) {}
}

/// Has every record of this program checked, and every panic noted.
pub(crate) fn watch() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Someone else may have set one; then it is not checked.
        if log::set_logger(&Checker).is_ok() {
            log::set_max_level(log::LevelFilter::Warn);
        }
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            note(shrink::text_of(info.payload()));
            before(info);
        }));
    });
    take_wrong();
    take_records();
}
