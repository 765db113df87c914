//! `net sub`: the lines that are published on a channel.
//!
//! Invariants: a line is printed as it was published, with a line feed after it; that some may be missing is said on stderr where
//! it arises. Not here: whom the node asks (`up/follow.rs`).

use std::fmt;

use serde::Serialize;

use crate::args::SubArgs;
use crate::control::client::{Answers, Client, only};
use crate::control::records::short;
use crate::control::{Answer, ChannelEvent, Line, Question, encode};
use crate::error::{Code, Failure};
use crate::output::{Out, Record};
use crate::signals::Signals;

/// `net sub`
pub async fn run(args: &SubArgs, out: Out) -> Result<(), Failure> {
    let mut signals = Signals::new()?;
    let mut client = Client::connect(&args.ask).await?;
    let name = args.name.clone();
    client.say(&encode(&Question::Subscribe { name })).await;
    let (answers, _lines) = client.split();
    tokio::select! {
        biased;
        // Being told to end is how this ends.
        _ = signals.next() => Ok(()),
        result = print(answers, args.count, out) => result,
    }
}

async fn print(mut answers: Answers, count: u64, out: Out) -> Result<(), Failure> {
    let mut lines = 0;
    loop {
        let answer = answers.next().await?;
        if let Answer::Event(event) = answer {
            out.event(&Told(event));
            continue;
        }
        let line = only!(answer, Line)?;
        if out.is_text() {
            let Some(mut bytes) = line.bytes() else {
                return Err(Failure::new(
                    Code::Control,
                    "the running node sent a line that is damaged",
                ));
            };
            bytes.push(b'\n');
            out.bytes(&bytes)?;
        } else {
            out.result(&Printed(line))?;
        }
        lines += 1;
        if lines == count {
            return Ok(());
        }
    }
}

/// A line as JSON.
#[derive(Serialize)]
struct Printed(Line);

impl fmt::Display for Printed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0.bytes().unwrap_or_default();
        f.write_str(&String::from_utf8_lossy(&bytes))
    }
}

impl Record for Printed {
    const KIND: &'static str = "line";
}

/// An event of a channel as it is told.
#[derive(Serialize)]
pub struct Told(pub ChannelEvent);

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            ChannelEvent::Taken { id } => write!(f, "{} has taken the subscription", short(id)),
            ChannelEvent::Missed { id, why } => {
                write!(f, "{} is not subscribed to: {why}. It is asked again", short(id))
            }
            ChannelEvent::Ready { taken, missed } => {
                write!(
                    f,
                    "ready: {taken} node{} subscribed to",
                    if *taken == 1 { "" } else { "s" }
                )?;
                match missed {
                    0 => Ok(()),
                    missed => write!(f, ", {missed} could not be asked"),
                }
            }
            ChannelEvent::Lost { id, why } => {
                write!(
                    f,
                    "{} is lost: {why}. What it publishes meanwhile will be missing",
                    short(id)
                )
            }
            ChannelEvent::Gap { id } => write!(
                f,
                "{} has taken the subscription again; what it published meanwhile is missing (a gap)",
                short(id)
            ),
            ChannelEvent::Slow { id, patience_s } => write!(
                f,
                "waiting for {}, which takes nothing at the moment; it is dropped after {patience_s} s",
                short(id)
            ),
            ChannelEvent::Quick { id } => write!(f, "{} takes lines again", short(id)),
            ChannelEvent::Dropped { id, why } => write!(f, "{} was dropped: {why}", short(id)),
        }
    }
}

impl Record for Told {
    const KIND: &'static str = "channel";
}
