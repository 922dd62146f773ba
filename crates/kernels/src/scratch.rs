//! Buffers that a kernel needs for a moment, kept for the next.

use crate::maps::{LANES, Lanes};
use std::cell::RefCell;

thread_local! {
    /// Those that nobody on this thread is using.
    static FREE: RefCell<Vec<Vec<Lanes>>> = const { RefCell::new(vec![]) };
}

/// Gives `f` a buffer of `len` lanes. It may hold anything.
///
/// `f` may hand work to other threads: while it waits, this thread may come here again, and gets another buffer.
pub(crate) fn scratch<T>(len: usize, f: impl FnOnce(&mut [Lanes]) -> T) -> T {
    let mut buffer = FREE.with_borrow_mut(Vec::pop).unwrap_or_default();
    if buffer.len() < len {
        buffer.resize(len, [0.0; LANES]);
    }
    let result = f(&mut buffer[..len]);
    FREE.with_borrow_mut(|free| free.push(buffer));
    result
}

/// A vector of `len` numbers that may be anything, for a result of which every number is written before any is read: to
/// fill it with zeros first would be one more way through memory.
pub(crate) fn unwritten(len: usize) -> Vec<f32> {
    let mut values = Vec::with_capacity(len);
    #[allow(unsafe_code, clippy::uninit_vec)]
    // SAFETY: the vector has room for `len` numbers, and any bits are an f32. The kernels that call this write each of
    // them, which the tests of their values would show otherwise.
    unsafe {
        values.set_len(len);
    }
    values
}
