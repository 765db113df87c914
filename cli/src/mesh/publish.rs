//! `net pub`: lines of stdin to all who subscribe to a channel.
//!
//! Invariants: a line is what stands before a line feed, or the end; stdin is read no faster than the slowest subscriber takes it;
//! it ends when every subscriber's node has handed everything over, or is named with why it has not.
//! Not here: who subscribes (`up/channels.rs`).

use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, BufReader};

use super::subscribe::Told;
use crate::args::PubArgs;
use crate::channel::MAX_LINE;
use crate::control::client::{Answers, Client, Lines, only};
use crate::control::records::{Published, Taken};
use crate::control::{Answer, Line, Payload, Question, encode};
use crate::error::{Code, Failure};
use crate::output::{Note, Out};
use crate::signals::Signals;

/// Bytes sent to the node at once.
const BATCH: usize = 64 << 10;

/// `net pub`
pub async fn run(args: &PubArgs, out: Out) -> Result<(), Failure> {
    let mut signals = Signals::new()?;
    let mut client = Client::connect(&args.ask).await?;
    let name = args.name.clone();
    let publishing = client.ask(&Question::Publish { name }).await?;
    let Taken { channel, subscribers } = only!(publishing, Publishing)?;
    let s = if subscribers == 1 { "" } else { "s" };
    let text = format!("publishing on {channel} to {subscribers} subscriber{s}, and those that come");
    out.event(&Note::new(text));
    let (answers, mut lines) = client.split();
    let input = BufReader::new(tokio::io::stdin());
    let both = async {
        tokio::select! {
            biased;
            // Until the node has answered for good, what it says is told.
            result = listen(answers, out) => result.map(Some),
            fault = send(input, &mut lines) => fault.map(|never| match never {}),
        }
    };
    let published = signals.or(Box::pin(both)).await??;
    let Some(published) = published else { return Ok(()) };
    out.result(&published)?;
    // One that went away wanted no more.
    let failed = published
        .subscribers
        .iter()
        .filter(|delivery| !delivery.confirmed && !delivery.left)
        .count();
    if failed > 0 {
        let message = format!(
            "{failed} of {} subscribers did not get everything",
            published.subscribers.len()
        );
        return Err(Failure::new(Code::Dropped, message));
    }
    Ok(())
}

/// Sends what is read, and that there is no more; never ends by itself but with a fault of stdin.
async fn send(mut input: impl AsyncBufRead + Unpin, lines: &mut Lines) -> Result<std::convert::Infallible, Failure> {
    let (mut line, mut batch) = (Vec::new(), Vec::new());
    loop {
        line.clear();
        match next_line(&mut input, &mut line).await? {
            true => batch.extend_from_slice(&encode(&Payload::Line(Line::new(&line, None)))),
            false => break,
        }
        // What was read already goes along; nothing waits for what was not.
        if batch.len() >= BATCH || !has_line(&mut input).await {
            deliver(lines, &mut batch).await;
        }
    }
    batch.extend_from_slice(&encode(&Payload::End));
    deliver(lines, &mut batch).await;
    std::future::pending().await
}

async fn deliver(lines: &mut Lines, batch: &mut Vec<u8>) {
    if lines.say(batch).await.is_err() {
        // The node is gone: its answers say so.
        std::future::pending::<()>().await;
    }
    batch.clear();
}

/// Whether a whole line was read already.
async fn has_line(input: &mut (impl AsyncBufRead + Unpin)) -> bool {
    let read = std::pin::pin!(input.fill_buf());
    match futures_poll(read).await {
        Some(Ok(buffer)) => buffer.contains(&b'\n'),
        Some(Err(_)) | None => false,
    }
}

/// Polls once.
async fn futures_poll<F: Future + Unpin>(mut future: F) -> Option<F::Output> {
    std::future::poll_fn(|cx| {
        std::task::Poll::Ready(match std::pin::Pin::new(&mut future).poll(cx) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        })
    })
    .await
}

/// Reads a line without its end; `false` where there is none.
async fn next_line(input: &mut (impl AsyncBufRead + Unpin), line: &mut Vec<u8>) -> Result<bool, Failure> {
    loop {
        let read = input.fill_buf().await;
        let buffer = read.map_err(|error| Failure::stdio("read stdin", &error))?;
        if buffer.is_empty() {
            return Ok(!line.is_empty());
        }
        let end = buffer.iter().position(|&byte| byte == b'\n');
        let taken = end.unwrap_or(buffer.len());
        line.extend_from_slice(&buffer[..taken]);
        input.consume(taken + usize::from(end.is_some()));
        if line.len() > MAX_LINE {
            let message = format!("a line of stdin is longer than the {MAX_LINE} bytes that a channel takes");
            return Err(Failure::new(Code::Line, message));
        }
        if end.is_some() {
            return Ok(true);
        }
    }
}

async fn listen(mut answers: Answers, out: Out) -> Result<Published, Failure> {
    loop {
        let answer = answers.next().await?;
        if let Answer::Event(event) = answer {
            out.event(&Told(event));
        } else {
            return only!(answer, Published);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines(mut input: &[u8]) -> Vec<Vec<u8>> {
        let (mut all, mut line) = (Vec::new(), Vec::new());
        while next_line(&mut input, &mut line).await.expect("readable") {
            all.push(std::mem::take(&mut line));
        }
        all
    }

    #[tokio::test]
    async fn lines_end_with_a_line_feed_or_the_end() {
        assert_eq!(lines(b"").await, Vec::<Vec<u8>>::new());
        assert_eq!(lines(b"a\n\nb\r\n").await, [&b"a"[..], b"", b"b\r"]);
        assert_eq!(lines(b"\xff\nrest").await, [&b"\xff"[..], b"rest"]);
    }

    #[tokio::test]
    async fn a_line_beyond_the_limit_is_refused() {
        let mut line = Vec::new();
        let longest = [vec![b'x'; MAX_LINE], vec![b'\n']].concat();
        assert!(next_line(&mut &longest[..], &mut line).await.expect("just fits"));
        line.clear();
        let longer = vec![b'x'; MAX_LINE + 1];
        let refused = next_line(&mut &longer[..], &mut line).await.expect_err("too long");
        assert_eq!(refused.code, Code::Line);
    }
}
