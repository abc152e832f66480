//! A chat: the first line is a name, the others are heard by all.
//!
//! ```console
//! $ cargo run --example chat &
//! listening on 127.0.0.1:7007
//! $ (echo ann; sleep 2; echo '/who'; sleep 1) | nc -N 127.0.0.1 7007 &
//! welcome, ann
//! $ (sleep 1; echo bob; echo 'hello all') | nc -N 127.0.0.1 7007
//! * bob is here
//! bob: hello all
//! welcome, bob
//! * bob has left
//! here: ann
//! ```

use std::collections::BTreeMap;
use std::{io, str};

use oneloop::{CloseReason, ConnId, Context, Lines, Pair, Served, Server, Service};

const MAX_NAME: usize = 20;

#[derive(Default)]
struct Room {
    names: BTreeMap<String, ConnId>,
}

/// What the room knows of a connection.
#[derive(Default)]
enum Guest {
    #[default]
    Nameless,
    Named(String),
}

impl Room {
    /// Only who has a name hears what is said.
    fn tell_others(&self, cx: &mut Context<'_>, text: &str) -> Served {
        let me = cx.id();
        cx.send_all(self.names.values().copied().filter(|&id| id != me), text.as_bytes())
    }
}

impl Service for Room {
    type Session = Guest;

    fn message(&mut self, cx: &mut Context<'_>, guest: &mut Guest, line: &[u8]) -> Served {
        // A control character could move the cursors of all who hear it.
        let text = str::from_utf8(line).ok().filter(|text| !text.contains(char::is_control));
        let Some(text) = text else { return cx.reply(b"! only text, please") };
        match guest {
            Guest::Named(_) if text == "/who" => {
                let names: Vec<&str> = self.names.keys().map(String::as_str).collect();
                cx.reply(format!("here: {}", names.join(", ")).as_bytes())
            }
            Guest::Named(name) => self.tell_others(cx, &format!("{name}: {text}")),
            Guest::Nameless => match text.trim() {
                "" => cx.reply(b"! your name?"),
                name if name.len() > MAX_NAME => cx.reply(b"! a shorter name?"),
                name if self.names.contains_key(name) => cx.reply(b"! that name is taken"),
                name => {
                    *guest = Guest::Named(name.into());
                    self.names.insert(name.into(), cx.id());
                    cx.reply(format!("welcome, {name}").as_bytes())?;
                    self.tell_others(cx, &format!("* {name} is here"))
                }
            },
        }
    }

    fn closed(&mut self, cx: &mut Context<'_>, guest: &mut Guest, _reason: CloseReason) {
        if let Guest::Named(name) = guest {
            self.names.remove(name);
            // With too many messages under way it is lost, and no one is left to be told.
            let _ = self.tell_others(cx, &format!("* {name} has left"));
        }
    }
}

fn main() -> io::Result<()> {
    let addr = std::env::args().nth(1).unwrap_or("127.0.0.1:7007".into());
    // A line goes out longer than it came in, by a name; and the list of all names is
    // as long as the most guests make it.
    let framing =
        Pair { decode: Lines::default().max(1000), encode: Lines::default().max(1 << 18) };
    let server = Server::bind(addr, framing)?;
    println!("listening on {}", server.local_addr());
    server.run(Room::default())
}
