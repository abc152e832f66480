//! `oneloop bench`: loads a server and says what it saw.

mod charts;
mod compare;
mod histogram;
mod numbers;
mod page;
mod text;

#[cfg(test)]
mod sample;
