//! Receipts are read while sending goes on.
//!
//! Each line is sent as a message behind its size. Another thread prints the receipts as
//! they come, and at the end what came without one: messages are never lost unsaid.
//!
//! ```console
//! $ oneloop serve -q --preset sized &
//! $ printf 'one\ntwo\n' | cargo run --example receipts
//! receipt 1: Msg received
//! receipt 2: Msg received
//! $ (echo one; sleep 1; killall -STOP oneloop; echo two; sleep 1; killall -KILL oneloop) |
//!     cargo run --example receipts
//! receipt 1: Msg received
//! 127.0.0.1:7000: connection lost: Connection reset by peer (os error 104); 1 message was not answered
//! no receipt for: two
//! ```

use std::time::Duration;
use std::{io, thread};

use oneloop::{Client, ClientError, ClientOptions, Endian, LengthField, Receiver, Retry};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let addr = std::env::args().nth(1).unwrap_or("127.0.0.1:7000".into());
    let options = ClientOptions::default()
        // The server may be started after us.
        .retry(Retry::every(10, Duration::from_secs(1)))
        // Who types takes their time.
        .read_timeout(None);
    let mut client = Client::new(addr, LengthField::u32(Endian::Big), options);
    client.connect()?;

    let (mut sender, receiver) = client.split();
    let receipts = thread::spawn(|| print_receipts(receiver));
    for line in io::stdin().lines() {
        if receipts.is_finished() {
            break;
        }
        match sender.send(&line?) {
            // The other half tells what was lost.
            Err(ClientError::Lost { .. }) => break,
            sent => sent?,
        }
    }
    // Nothing will follow, but the last receipts still come.
    sender.finish();
    receipts.join().expect("it has no reason to panic")?;
    Ok(())
}

fn print_receipts(mut receiver: Receiver<LengthField>) -> Result<(), ClientError> {
    let mut count = 0;
    loop {
        match receiver.receive() {
            Ok(Some(receipt)) => {
                count += 1;
                println!("receipt {count}: {}", String::from_utf8_lossy(&receipt));
            }
            Ok(None) => return Ok(()),
            Err(error) => {
                println!("{error}");
                for message in error.into_unanswered() {
                    println!("no receipt for: {}", String::from_utf8_lossy(&message));
                }
                return Ok(());
            }
        }
    }
}
