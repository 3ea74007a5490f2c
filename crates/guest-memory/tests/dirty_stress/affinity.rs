// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Threads on processors of their own, so that they really run at once.
#![expect(unsafe_code, reason = "pins threads to processors")]

/// Lets the calling thread run on one processor only: the `index`-th of those it may use, counted round and round.
///
/// Does nothing where that cannot be had.
#[cfg(target_os = "linux")]
pub(crate) fn pin(processors: &[usize], index: usize) {
    let Some(&processor) = processors.get(index % processors.len().max(1)) else {
        return;
    };
    // SAFETY: all-zero bytes are a valid `cpu_set_t`, an array of integers.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the processor was found in such a set.
    unsafe { libc::CPU_SET(processor, &mut set) };
    // SAFETY: `set` is a set of so many bytes to be read; 0 is the calling thread.
    unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) };
}

/// Returns the processors that the calling thread may use.
#[cfg(target_os = "linux")]
pub(crate) fn processors() -> Vec<usize> {
    // SAFETY: all-zero bytes are a valid `cpu_set_t`, an array of integers.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    let bytes = size_of_val(&set);
    // SAFETY: `set` is a set of so many bytes to be written; 0 is the calling thread.
    unsafe { libc::sched_getaffinity(0, bytes, &raw mut set) };
    (0..8 * bytes)
        // SAFETY: the number is below the number of bits in the set.
        .filter(|&processor| unsafe { libc::CPU_ISSET(processor, &set) })
        .collect()
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn pin(_processors: &[usize], _index: usize) {}

#[cfg(not(target_os = "linux"))]
pub(crate) fn processors() -> Vec<usize> {
    Vec::new()
}
