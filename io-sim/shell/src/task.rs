//! Futures of a process: stopped and reported with it, asleep in virtual time, given up when waiting takes too long.
//!
//! Invariants: nothing here asks a runtime for the time; every race looks at its first future first; a future that is
//! dropped leaves nothing behind.
//! Not here: who polls them (`runtime.rs`).

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use net_io_sim::scenario::NodeIndex;

use crate::bed::Bed;

/// A task of a process.
pub type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// `future` as a task of `node`'s process: it stands still while the process is stopped, and its panic is a violation.
pub(crate) fn of_process(bed: &Bed, node: NodeIndex, future: impl Future<Output = ()> + Send + 'static) -> Task {
    let bed = bed.clone();
    let mut future = Box::pin(future);
    Box::pin(poll_fn(move |cx| {
        if !bed.may_run(node, cx.waker()) {
            return Poll::Pending;
        }
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(polled) => polled,
            Err(panic) => {
                let said = panic.downcast_ref::<String>().map(String::as_str);
                let said = said.or_else(|| panic.downcast_ref::<&str>().copied());
                bed.fail("panic", said.unwrap_or("a panic without words").to_owned());
                Poll::Ready(())
            }
        }
    }))
}

/// Waits until a moment of virtual time.
pub(crate) struct Sleep {
    bed: Bed,
    at: u64,
    number: Option<u64>,
}

pub(crate) fn sleep_until(bed: &Bed, at: u64) -> Sleep {
    Sleep {
        bed: bed.clone(),
        at,
        number: None,
    }
}

pub(crate) fn sleep(bed: &Bed, span: u64) -> Sleep {
    sleep_until(bed, bed.now().saturating_add(span))
}

impl Sleep {
    fn cancel(&mut self) {
        if let Some(number) = self.number.take() {
            self.bed.unsleep(self.at, number);
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        this.cancel();
        if this.bed.now() >= this.at {
            return Poll::Ready(());
        }
        this.number = Some(this.bed.sleep(this.at, cx.waker()));
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.cancel();
    }
}

/// What comes first; `first` where both are ready.
pub(crate) async fn race<A, B>(first: impl Future<Output = A>, second: impl Future<Output = B>) -> Result<A, B> {
    let (mut first, mut second) = (pin!(first), pin!(second));
    poll_fn(move |cx| {
        if let Poll::Ready(value) = first.as_mut().poll(cx) {
            return Poll::Ready(Ok(value));
        }
        second.as_mut().poll(cx).map(Err)
    })
    .await
}

/// How someone waits. Whatever is dropped on the way must lose nothing and double nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Patience {
    /// With one future, for ever.
    Lasting,
    /// Drops the future after so many ns and makes it anew.
    For(u64),
    /// Drops the future when it was woken and still has nothing, and makes it anew.
    OneWake,
}

impl Patience {
    /// Waits until patience is at its end.
    pub(crate) async fn end(self, bed: &Bed) {
        match self {
            Self::Lasting => std::future::pending().await,
            Self::For(span) => sleep(bed, span).await,
            Self::OneWake => {
                let mut looks = 0;
                poll_fn(|_| {
                    looks += 1;
                    if looks > 1 { Poll::Ready(()) } else { Poll::Pending }
                })
                .await;
            }
        }
    }
}

/// Waits for a future of `make`'s.
pub(crate) async fn patiently<F: Future>(bed: &Bed, patience: Patience, mut make: impl FnMut() -> F) -> F::Output {
    loop {
        if let Ok(value) = race(make(), patience.end(bed)).await {
            return value;
        }
    }
}
