//! One framing on one side, another on the other, in one loop: lines from clients go to a
//! server that wants a 4-byte length, and its replies come back as lines.
//!
//! ```console
//! $ oneloop serve -l 127.0.0.1:7001 -f u32be &
//! $ cargo run --example proxy &
//! listening on 127.0.0.1:7000
//! $ oneloop send 127.0.0.1:7000 hello
//! hello
//! ```

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;

use oneloop::{
    CloseReason, ConnId, Context, Dial, Endian, EndpointId, LengthField, Limits, Lines, Served,
    Server, Service,
};

/// Who speaks to whom, both ways.
type Pairs = Rc<RefCell<HashMap<ConnId, ConnId>>>;

/// Each client gets a connection of its own to the server behind.
struct Front {
    pairs: Pairs,
    back: EndpointId,
    dial: Dial,
}

/// The connections to the server behind.
struct Back {
    pairs: Pairs,
}

fn hand_on(pairs: &Pairs, cx: &mut Context<'_>, message: &[u8]) -> Served {
    let to = pairs.borrow().get(&cx.id()).copied();
    // What is sent to a connection that is not there yet waits for it.
    to.map_or(Ok(()), |to| cx.send(to, message))
}

/// One side has finished and still listens; so the other is told, and may go on.
fn pass_on_the_end(pairs: &Pairs, cx: &mut Context<'_>) -> Served {
    cx.keep_open();
    let other = pairs.borrow().get(&cx.id()).copied();
    other.into_iter().for_each(|other| cx.finish(other));
    Ok(())
}

/// Who is left alone is closed, too, when it has read what is under way.
fn part(pairs: &Pairs, cx: &mut Context<'_>) {
    let other = pairs.borrow_mut().remove(&cx.id());
    if let Some(other) = other {
        pairs.borrow_mut().remove(&other);
        cx.close(other);
    }
}

impl Service for Front {
    type Session = ();

    fn opened(&mut self, cx: &mut Context<'_>, (): &mut ()) -> Served {
        let server = cx.connect(self.back, self.dial.clone());
        self.pairs.borrow_mut().extend([(cx.id(), server), (server, cx.id())]);
        Ok(())
    }

    fn message(&mut self, cx: &mut Context<'_>, (): &mut (), message: &[u8]) -> Served {
        hand_on(&self.pairs, cx, message)
    }

    fn finished(&mut self, cx: &mut Context<'_>, (): &mut ()) -> Served {
        pass_on_the_end(&self.pairs, cx)
    }

    fn closed(&mut self, cx: &mut Context<'_>, (): &mut (), _: CloseReason) {
        part(&self.pairs, cx);
    }
}

impl Service for Back {
    type Session = ();

    fn message(&mut self, cx: &mut Context<'_>, (): &mut (), message: &[u8]) -> Served {
        hand_on(&self.pairs, cx, message)
    }

    fn finished(&mut self, cx: &mut Context<'_>, (): &mut ()) -> Served {
        pass_on_the_end(&self.pairs, cx)
    }

    fn closed(&mut self, cx: &mut Context<'_>, (): &mut (), _: CloseReason) {
        part(&self.pairs, cx);
    }
}

fn main() -> std::io::Result<()> {
    let mut args = std::env::args().skip(1);
    let forward = args.next().unwrap_or("127.0.0.1:7001".into());
    let listen = args.next().unwrap_or("127.0.0.1:7000".into());

    let pairs = Pairs::default();
    let mut server = Server::new()?;
    let back = Back { pairs: pairs.clone() };
    let back = server.add(LengthField::u32(Endian::Big), back, Limits::default())?;
    let front = Front { pairs, back, dial: Dial::resolve(&forward)? };
    let front = server.add(Lines::default(), front, Limits::default())?;
    let listening: SocketAddr = server.listen(front, listen)?;
    println!("listening on {listening}");
    server.run()
}
