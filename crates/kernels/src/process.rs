//! What holds for the whole process: how many threads compute, and what becomes of freed memory.

use candle_core::{Result, bail};
use std::ffi::c_int;

/// Prepares this process for computing with `threads` threads; to be called once, first thing in `main`.
///
/// rayon's pool gets `threads` threads, and candle's matrix products as many. candle's own second pool, whose workers
/// spin while they wait, gets none: batches are cut into shards and each core takes whole shards, so that a second pool
/// would only compete for the cores.
///
/// Memory that is freed stays with mimalloc, for binaries that allocate with it. A training step frees what the next one
/// needs; given back and taken again, it would be cleared by the kernel each time.
///
/// # Errors
/// When `threads` is 0, when rayon's pool has already started, or when another thread is running already.
pub fn set_up(threads: usize) -> Result<()> {
    if threads == 0 {
        bail!("0 threads cannot compute: give at least 1");
    }
    keep_memory();
    if let Ok(tasks) = std::fs::read_dir("/proc/self/task") {
        if tasks.count() > 1 {
            bail!("the number of threads must be set before any thread starts");
        }
        #[allow(unsafe_code)]
        // SAFETY: the environment may be changed while no other thread reads it, and the line above has just found that
        // there is no other thread.
        unsafe {
            std::env::set_var("RAYON_NUM_THREADS", threads.to_string());
            std::env::set_var("CANDLE_NUM_THREADS", "1");
        }
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
    pool.map_err(candle_core::Error::wrap)
}

/// `mi_option_purge_delay` of mimalloc 3, which its bindings have no name for.
const PURGE_DELAY: c_int = 15;

fn keep_memory() {
    #[allow(unsafe_code)]
    // SAFETY: mimalloc lets options be set at any time; one that it does not know it ignores.
    unsafe {
        libmimalloc_sys::mi_option_set(PURGE_DELAY, -1);
    }
}
