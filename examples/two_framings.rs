//! Two framings on two ports of one loop, and messages that go from one to the other.
//!
//! People type lines on the first port; instruments send frames with a 4-byte length
//! on the second. What either says, all on the other side hear, each in its framing.
//!
//! ```console
//! $ cargo run --example two_framings -- 127.0.0.1:7007 127.0.0.1:7008 &
//! listening on 127.0.0.1:7007
//! listening on 127.0.0.1:7008
//! $ (sleep 1; echo 'measure!'; sleep 1) | nc -N 127.0.0.1 7007 &
//! $ (sleep 2; printf '\0\0\0\00421 C') | nc -N 127.0.0.1 7008 | xxd
//! 21 C
//! 00000000: 0000 0008 6d65 6173 7572 6521            ....measure!
//! ```

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::{env, io};

use oneloop::{
    CloseReason, ConnId, Context, Endian, LengthField, Limits, Lines, Served, Server, Service,
};

/// Who is connected on one side. Everything runs on the thread of the loop, so it can
/// be shared without a lock.
type Side = Rc<RefCell<BTreeSet<ConnId>>>;

/// Hands messages of its own side on to the other.
struct Bridge {
    ours: Side,
    theirs: Side,
}

impl Service for Bridge {
    type Session = ();

    fn opened(&mut self, cx: &mut Context<'_>, (): &mut ()) -> Served {
        self.ours.borrow_mut().insert(cx.id());
        Ok(())
    }

    fn message(&mut self, cx: &mut Context<'_>, (): &mut (), message: &[u8]) -> Served {
        // The names say which endpoint they are of, and so in which framing to send.
        cx.send_all(self.theirs.borrow().iter().copied(), message)
    }

    fn closed(&mut self, cx: &mut Context<'_>, (): &mut (), _reason: CloseReason) {
        self.ours.borrow_mut().remove(&cx.id());
    }
}

fn main() -> io::Result<()> {
    let mut addrs = env::args().skip(1);
    let (people, instruments) = (Side::default(), Side::default());
    let there = Bridge { ours: people.clone(), theirs: instruments.clone() };
    let back = Bridge { ours: instruments, theirs: people };

    let mut server = Server::new()?;
    let lines = server.add(Lines::default(), there, Limits::default())?;
    let frames = server.add(LengthField::u32(Endian::Big), back, Limits::default())?;
    let first = addrs.next().unwrap_or("127.0.0.1:7007".into());
    println!("listening on {}", server.listen(lines, first)?);
    let second = addrs.next().unwrap_or("127.0.0.1:0".into());
    println!("listening on {}", server.listen(frames, second)?);
    server.run()
}
