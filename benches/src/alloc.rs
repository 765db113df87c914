//! An allocator that counts, for tests and benchmarks that claim to allocate nothing.
//!
//! Invariants: counts per thread, so that a test harness's other threads do not disturb. Not here: who installs it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static COUNTED: Cell<Count> = const { Cell::new(Count { calls: 0, bytes: 0 }) };
    static HELD: Cell<i64> = const { Cell::new(0) };
}

/// Calls of the allocator by one thread, growth included and frees not, and the bytes they asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Count {
    /// How many calls.
    pub calls: u64,
    /// How many bytes.
    pub bytes: u64,
}

/// The system's allocator, counting. Install it with `#[global_allocator]`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counting;

/// What `act` allocates on this thread, where [`Counting`] is installed.
pub fn counted<T>(act: impl FnOnce() -> T) -> (T, Count) {
    let before = COUNTED.get();
    let value = act();
    let after = COUNTED.get();
    let count = Count {
        calls: after.calls - before.calls,
        bytes: after.bytes - before.bytes,
    };
    (value, count)
}

/// How many bytes more are allocated after `act` on this thread than before, where [`Counting`] is installed.
pub fn held<T>(act: impl FnOnce() -> T) -> (T, i64) {
    let before = HELD.get();
    let value = act();
    (value, HELD.get() - before)
}

fn hold(bytes: i64) {
    // A thread that is ending has no counter any more.
    let _ = HELD.try_with(|held| held.set(held.get() + bytes));
}

fn count(bytes: usize) {
    // A thread that is ending has no counter any more.
    let _ = COUNTED.try_with(|counted| {
        let Count { calls, bytes: sum } = counted.get();
        counted.set(Count {
            calls: calls + 1,
            bytes: sum + bytes as u64,
        });
    });
}

// SAFETY: every method passes its arguments on to `System` unchanged, and counting neither allocates nor unwinds: the
// counter is a `const`-initialised `Cell` without a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        hold(layout.size() as i64);
        // SAFETY: the caller keeps `alloc`'s contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        hold(layout.size() as i64);
        // SAFETY: the caller keeps `alloc_zeroed`'s contract, which is the same.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count(new_size);
        hold(new_size as i64 - layout.size() as i64);
        // SAFETY: the caller keeps `realloc`'s contract, and `ptr` came from `System`.
        unsafe { System.realloc(ptr, layout, new_size) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        hold(-(layout.size() as i64));
        // SAFETY: the caller keeps `dealloc`'s contract, and `ptr` came from `System`.
        unsafe { System.dealloc(ptr, layout) }
    }
}
