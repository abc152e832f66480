//! Pages over HTTP/1.1: the service sees one request at a time, head and body together,
//! and answers with bytes, or with a status and fields.
//!
//! ```text
//! cargo run --example http -- 127.0.0.1:8080
//! curl -i http://127.0.0.1:8080/ http://127.0.0.1:8080/nowhere -d 'text to count'
//! ```

use std::io;

use oneloop::{Context, Http, Limits, Request, Response, Served, Server, Service};

const HTML: &[(&str, &str)] = &[("Content-Type", "text/html; charset=utf-8")];
const TEXT: &[(&str, &str)] = &[("Content-Type", "text/plain; charset=utf-8")];

#[derive(Default)]
struct Pages {
    served: u64,
}

impl Service for Pages {
    type Session = ();

    fn message(&mut self, cx: &mut Context<'_>, (): &mut (), message: &[u8]) -> Served {
        self.served += 1;
        // The framing delivers nothing else.
        let Some(request) = Request::read(message) else { return Ok(()) };
        let path = request.target.split('?').next().unwrap_or_default();
        match (request.method, path) {
            ("GET" | "HEAD", "/") => {
                let agent = request.fields.get("User-Agent").unwrap_or(b"nobody");
                let name = String::from_utf8_lossy(agent).replace(['<', '&'], "_");
                let page = format!("<h1>Hello, {name}</h1><p>Request {}.\n", self.served);
                cx.reply(Response::new(200).with_fields(HTML).with_body(&page))
            }
            ("POST", "/count") => {
                let count = format!("{} bytes\n", request.body.len());
                cx.reply(Response::new(200).with_fields(TEXT).with_body(&count))
            }
            (_, "/" | "/count") => cx.reply(Response::new(405)),
            _ => cx.reply(Response::new(404).with_fields(TEXT).with_body("no such page\n")),
        }
    }
}

fn main() -> io::Result<()> {
    let addr = std::env::args().nth(1).unwrap_or("127.0.0.1:8080".into());
    let mut server = Server::new()?;
    let pages = server.add(Http::default(), Pages::default(), Limits::default())?;
    println!("listening on {}", server.listen(pages, addr)?);
    server.run()
}
