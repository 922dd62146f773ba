//! What holds for the whole process: how many threads compute, with what vectors, and what becomes of freed memory.

use candle_core::{Result, bail};
use pulp::Arch;
use std::ffi::c_int;
use std::sync::atomic::{AtomicU8, Ordering};

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

/// The vectors that kernels compute with. All give the same numbers, bit by bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Vectors {
    /// The widest that the processor has: AVX-512, AVX2 with FMA, NEON, or none.
    Widest,
    /// AVX2 with FMA at most.
    Avx2,
    /// None: one number at a time.
    Scalar,
}

static VECTORS: AtomicU8 = AtomicU8::new(Vectors::Widest as u8);

/// Limits the vectors of all kernels, for the whole process: to compare.
pub fn limit_vectors(vectors: Vectors) {
    VECTORS.store(vectors as u8, Ordering::Relaxed);
}

/// What kernels are dispatched to.
pub(crate) fn arch() -> Arch {
    let vectors = VECTORS.load(Ordering::Relaxed);
    if vectors == Vectors::Scalar as u8 {
        return Arch::Scalar;
    }
    #[cfg(target_arch = "x86_64")]
    if vectors == Vectors::Avx2 as u8 {
        return pulp::x86::V3::try_new().map_or(Arch::Scalar, Arch::V3);
    }
    Arch::new()
}
