//! `--messages N` and `--closing-word TEXT`: when a connection has been served enough.

use oneloop::{CloseReason, Context, FrameError, Served, Service};

/// A service whose connections may end in order, the last message answered.
pub(crate) struct Ending {
    pub(crate) service: Box<dyn Service<Session = ()>>,
    /// After so many messages of one connection, at least 1.
    pub(crate) after: Option<u32>,
    /// After this message.
    pub(crate) word: Option<Box<[u8]>>,
}

impl Service for Ending {
    /// How many messages there were.
    type Session = u32;

    fn opened(&mut self, cx: &mut Context<'_>, _count: &mut u32) -> Served {
        self.service.opened(cx, &mut ())
    }

    fn message(&mut self, cx: &mut Context<'_>, count: &mut u32, message: &[u8]) -> Served {
        *count = count.saturating_add(1);
        let enough = self.after.is_some_and(|after| *count >= after);
        if enough || self.word.as_deref() == Some(message) {
            cx.close_after_flush();
        }
        self.service.message(cx, &mut (), message)
    }

    fn bad_input(&mut self, cx: &mut Context<'_>, _count: &mut u32, error: &FrameError) -> Served {
        self.service.bad_input(cx, &mut (), error)
    }

    fn finished(&mut self, cx: &mut Context<'_>, _count: &mut u32) -> Served {
        self.service.finished(cx, &mut ())
    }

    fn timer(&mut self, cx: &mut Context<'_>, _count: &mut u32) -> Served {
        self.service.timer(cx, &mut ())
    }

    fn closed(&mut self, cx: &mut Context<'_>, _count: &mut u32, reason: CloseReason) {
        self.service.closed(cx, &mut (), reason);
    }
}
