//! A small instrument behind one-line commands, one client at a time.
//!
//! `ping`, `disconnect` and `shutdown` are answered by the service; the rest is ours.
//!
//! ```console
//! $ cargo run --example oneline &
//! listening on 127.0.0.1:7007
//! $ printf 'ping\nset volts 4.5\nset amps 2\nlist\nget ohms\nshutdown\n' | nc -N 127.0.0.1 7007
//! pong
//! amps 2
//! volts 4.5
//! error: no 'ohms' is set
//! ```

use std::collections::BTreeMap;
use std::io;

use oneloop::services::{OneLine, Packet};
use oneloop::{Context, Limits, Lines, Served, Server};

/// Names, not to be more than an instrument has room for.
const MAX_SETTINGS: usize = 100;

fn main() -> io::Result<()> {
    let addr = std::env::args().nth(1).unwrap_or("127.0.0.1:7007".into());
    let mut settings = BTreeMap::<String, String>::new();
    let instrument = OneLine::new(move |cx: &mut Context<'_>, packet: Packet<'_>| match packet {
        Packet::Text(command) => obey(&mut settings, cx, command),
        // It has been answered `invalid`, and there is nothing to add.
        Packet::Invalid(_) => Ok(()),
    });
    let mut server = Server::new()?;
    let limits = Limits::default().max_connections(1);
    let endpoint = server.add(Lines::default(), instrument, limits)?;
    println!("listening on {}", server.listen(endpoint, addr)?);
    server.run()
}

/// Answers with no packet, one or several.
fn obey(settings: &mut BTreeMap<String, String>, cx: &mut Context<'_>, command: &str) -> Served {
    let words: Vec<&str> = command.split_whitespace().collect();
    match words[..] {
        ["set", name, value] if settings.len() < MAX_SETTINGS || settings.contains_key(name) => {
            settings.insert(name.into(), value.into());
            Ok(())
        }
        ["set", _, _] => cx.reply(b"error: no room for another name"),
        ["get", name] => match settings.get(name) {
            Some(value) => cx.reply(value.as_bytes()),
            None => cx.reply(format!("error: no '{name}' is set").as_bytes()),
        },
        ["list"] => settings
            .iter()
            .try_for_each(|(name, value)| cx.reply(format!("{name} {value}").as_bytes())),
        _ => cx.reply(b"error: say set NAME VALUE, get NAME or list"),
    }
}
