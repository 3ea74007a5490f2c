// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The limit of building and dropping guests: the system calls alone.
#![expect(
    unsafe_code,
    reason = "maps and unmaps memory of its own by bare system calls"
)]

use std::hint::black_box;
use std::ptr;

use crate::failed;
use crate::life::{Part, time_part};
use crate::measure::Sample;

/// Maps fresh memory and unmaps it again, in batches of `batch_len`; times one of the two.
pub fn map_and_unmap(len_bytes: usize, batch_len: usize, part: Part, count: u64) -> Sample {
    time_part(batch_len, part, count, || BareMapping::new(len_bytes))
}

/// A mapping that is unmapped on drop.
///
/// # Invariants
///
/// `[base, base + len_bytes)` is one mapping that nobody else knows.
struct BareMapping {
    base: *mut libc::c_void,
    len_bytes: usize,
}

impl BareMapping {
    fn new(len_bytes: usize) -> Self {
        // SAFETY: a new private mapping at an address of the kernel's choice touches nothing that exists.
        let base = unsafe {
            libc::mmap(
                ptr::null_mut(),
                black_box(len_bytes),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_ANONYMOUS | libc::MAP_PRIVATE | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            failed();
        }
        Self { base, len_bytes }
    }
}

impl Drop for BareMapping {
    fn drop(&mut self) {
        // SAFETY: by the invariant this is one whole mapping, which nobody uses.
        if unsafe { libc::munmap(self.base, self.len_bytes) } != 0 {
            failed();
        }
    }
}
