//! The commands that ask the running node.
//!
//! | file | role |
//! |---|---|
//! | `top.rs` | `net top` |
//! | `publish.rs` `subscribe.rs` | `net pub`, `net sub` |
//! | `netcheck.rs` | `net netcheck`, which asks the host alone |
//!
//! Invariants: what the node answers is what is printed. Not here: what it answers (`up/look.rs`), `net ping` (`ping.rs`).

pub mod netcheck;
pub mod publish;
pub mod subscribe;
pub mod top;

use net_io_real::Ticket;

use crate::args::{AskArgs, JoinArgs, TraceArgs};
use crate::control::client::{Client, only};
use crate::control::{Answer, Question, Target};
use crate::error::{Code, Failure};
use crate::output::Out;
use crate::peer;
use crate::signals::Signals;

/// `net status`
pub async fn status(args: &AskArgs, out: Out) -> Result<(), Failure> {
    let status = only!(ask(args, Question::Status).await?, Status)?;
    out.result(&*status)
}

/// `net peers`
pub async fn peers(args: &AskArgs, out: Out) -> Result<(), Failure> {
    let peers = only!(ask(args, Question::Peers).await?, Peers)?;
    out.result(&peers)
}

/// `net routes`
pub async fn routes(args: &AskArgs, out: Out) -> Result<(), Failure> {
    let routes = only!(ask(args, Question::Routes).await?, Routes)?;
    out.result(&routes)
}

/// `net ticket`
pub async fn ticket(args: &AskArgs, out: Out) -> Result<(), Failure> {
    let ticket = only!(ask(args, Question::Ticket).await?, Ticket)?;
    out.result(&ticket)
}

/// `net join`
pub async fn join(args: &JoinArgs, out: Out) -> Result<(), Failure> {
    let ticket = peer::read_ticket(args.ticket.as_deref(), args.ticket_file.as_deref())?;
    let question = Question::Join {
        ticket: public(&ticket),
        timeout_ms: millis(args.timeout),
    };
    let joined = only!(ask(&args.ask, question).await?, Joined)?;
    out.result(&joined)
}

/// `net trace`
pub async fn trace(args: &TraceArgs, out: Out) -> Result<(), Failure> {
    let target = target(&args.node)?;
    let trace = only!(ask(&args.ask, Question::Trace { target }).await?, Trace)?;
    out.result(&trace)
}

/// `net doctor`
pub async fn doctor(args: &AskArgs, out: Out) -> Result<(), Failure> {
    let doctor = only!(ask(args, Question::Doctor).await?, Doctor)?;
    out.result(&doctor)?;
    if doctor.well {
        Ok(())
    } else {
        Err(Failure::new(Code::Unwell, "something is to be changed"))
    }
}

async fn ask(args: &AskArgs, question: Question) -> Result<Answer, Failure> {
    let mut signals = Signals::new()?;
    let mut client = Client::connect(args).await?;
    signals.or(client.ask(&question)).await?
}

/// A node by its ticket or by its identity.
pub fn target(text: &str) -> Result<Target, Failure> {
    if is_digits(text) {
        return Ok(Target::Node(text.to_owned()));
    }
    let ticket = peer::read_ticket(Some(text), None)?;
    Ok(Target::Ticket(public(&ticket)))
}

/// Whether this is an identity, or the first digits of one, and no ticket.
pub fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_hexdigit())
}

/// A ticket without the network key, which the running node has or does not need.
pub fn public(ticket: &Ticket) -> String {
    Ticket::new(ticket.entity, ticket.fingerprint, ticket.addresses.clone()).to_string()
}

pub fn millis(span: std::time::Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
