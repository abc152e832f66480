//! A server, and a console on another thread.
//!
//! What is typed goes to every client. The end of the input ends the server.
//!
//! ```console
//! $ (sleep 2; echo 'tea is ready'; sleep 1) | cargo run --example from_another_thread &
//! listening on 127.0.0.1:7007
//! $ printf 'hello\n' | nc 127.0.0.1 7007
//! hello
//! told 1 clients
//! tea is ready
//! ```

use std::{io, thread};

use oneloop::services::Echo;
use oneloop::{EndpointId, Handle, HandleError, Limits, Lines, Server};

fn main() -> io::Result<()> {
    let addr = std::env::args().nth(1).unwrap_or("127.0.0.1:7007".into());
    let mut server = Server::new()?;
    let everyone = server.add(Lines::default(), Echo, Limits::default())?;
    println!("listening on {}", server.listen(everyone, addr)?);

    // The server stays on the thread that made it; a handle may go anywhere.
    let handle = server.handle();
    let console = thread::spawn(move || console(&handle, everyone));
    server.run()?;
    console.join().expect("the console has no reason to panic").map_err(io::Error::other)
}

fn console(handle: &Handle, everyone: EndpointId) -> Result<(), HandleError> {
    for line in io::stdin().lines().map_while(Result::ok) {
        handle.broadcast(everyone, line)?;
        // Waiting for an answer keeps us in step with the loop. Without it, a long
        // file as input could fill the queue between us: `HandleError::Full`.
        let counters = handle.counters()?.recv().map_err(|_| HandleError::Gone)?;
        println!("told {} clients", counters.open);
    }
    handle.shutdown()
}
