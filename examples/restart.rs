//! A client whose server is killed and started again.
//!
//! It asks again and again, a second apart or what you say in milliseconds, and shows its
//! states. A question that was lost is asked once more: the server may have read it, so
//! this is for questions that can be asked twice.
//!
//! ```console
//! $ oneloop serve -q &
//! $ cargo run --example restart &
//! Connected
//! answer: question 1
//! answer: question 2
//! $ killall -STOP oneloop; sleep 1; killall -KILL oneloop; sleep 1; oneloop serve -q &
//! Disconnected
//! 127.0.0.1:7000: connection lost: Connection reset by peer (os error 104); 1 message was not answered
//! Connected
//! answer: question 3
//! answer: question 4
//! $ killall -KILL oneloop; oneloop serve -q &
//! Disconnected
//! Connected
//! answer: question 5
//! ```

use std::thread;
use std::time::Duration;

use oneloop::{Client, ClientError, ClientOptions, Lines, Retry};

fn main() -> Result<(), ClientError> {
    let addr = std::env::args().nth(1).unwrap_or("127.0.0.1:7000".into());
    let apart = std::env::args().nth(2).and_then(|ms| ms.parse().ok()).unwrap_or(1000);
    // About a minute in all; several clients will not come back all at once.
    let retry = Retry::growing(30, Duration::from_millis(100), Duration::from_secs(2));
    let mut client = Client::new(addr, Lines::default(), ClientOptions::default().retry(retry))
        .on_state(|state| println!("{state:?}"));

    for number in 1.. {
        let mut question = format!("question {number}").into_bytes();
        let answer = loop {
            match client.request(&question) {
                Ok(answer) => break answer,
                Err(error @ ClientError::Lost { .. }) => {
                    println!("{error}");
                    // There is one at a time here.
                    question = error.into_unanswered().remove(0);
                }
                Err(error) => return Err(error),
            }
        };
        println!("answer: {}", String::from_utf8_lossy(&answer));
        thread::sleep(Duration::from_millis(apart));
    }
    Ok(())
}
