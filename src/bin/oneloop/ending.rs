//! `--messages N` and `--closing-word TEXT`: when a connection has been served enough.

use oneloop::{CloseReason, Context, FrameError, Served, Service};

/// A service whose connections end in order, the last message answered.
pub(crate) struct Ending<S> {
    pub(crate) service: S,
    /// After so many messages of one connection, at least 1.
    pub(crate) after: Option<u32>,
    /// After this message.
    pub(crate) word: Option<Box<[u8]>>,
}

impl<S: Service> Service for Ending<S> {
    /// How many messages there were, and what the service remembers.
    type Session = (u32, S::Session);

    fn opened(&mut self, cx: &mut Context<'_>, session: &mut Self::Session) -> Served {
        self.service.opened(cx, &mut session.1)
    }

    fn message(
        &mut self,
        cx: &mut Context<'_>,
        (count, session): &mut Self::Session,
        message: &[u8],
    ) -> Served {
        *count = count.saturating_add(1);
        let enough = self.after.is_some_and(|after| *count >= after);
        if enough || self.word.as_deref() == Some(message) {
            cx.close_after_flush();
        }
        self.service.message(cx, session, message)
    }

    fn bad_input(
        &mut self,
        cx: &mut Context<'_>,
        session: &mut Self::Session,
        error: &FrameError,
    ) -> Served {
        self.service.bad_input(cx, &mut session.1, error)
    }

    fn finished(&mut self, cx: &mut Context<'_>, session: &mut Self::Session) -> Served {
        self.service.finished(cx, &mut session.1)
    }

    fn timer(&mut self, cx: &mut Context<'_>, session: &mut Self::Session) -> Served {
        self.service.timer(cx, &mut session.1)
    }

    fn closed(&mut self, cx: &mut Context<'_>, session: &mut Self::Session, reason: CloseReason) {
        self.service.closed(cx, &mut session.1, reason);
    }
}
