//! `--messages N`: each connection closes in order after so many messages.

use oneloop::{CloseReason, Context, FrameError, Served, Service};

/// A service whose connections end when they have been served often enough.
pub(crate) struct Messages<S> {
    pub(crate) service: S,
    /// Messages of one connection, at least 1.
    pub(crate) limit: u32,
}

impl<S: Service> Service for Messages<S> {
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
        *count += 1;
        if *count >= self.limit {
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

    fn timer(&mut self, cx: &mut Context<'_>, session: &mut Self::Session) -> Served {
        self.service.timer(cx, &mut session.1)
    }

    fn closed(&mut self, cx: &mut Context<'_>, session: &mut Self::Session, reason: CloseReason) {
        self.service.closed(cx, &mut session.1, reason);
    }
}
