// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The table of instructions that touch guest memory.
//!
//! The copy engine's assembly puts the entries into a section; the linker says where that starts and stops.
#![expect(
    unsafe_code,
    reason = "reads what the assembly and the linker laid down"
)]

use crate::copy::Word;

/// An entry: three addresses, each as the distance from its own place.
#[repr(C)]
struct Entry {
    /// The first instruction that may fault.
    start: i32,
    /// The end of these instructions.
    end: i32,
    /// Where to go on after a fault.
    recovery: i32,
}

unsafe extern "C" {
    #[link_name = "__start_guest_memory_faults"]
    static START: Entry;
    #[link_name = "__stop_guest_memory_faults"]
    static STOP: Entry;
}

/// Returns the entries of all accesses in this program or library.
fn entries() -> &'static [Entry] {
    let start = &raw const START;
    let len_bytes = (&raw const STOP).addr().wrapping_sub(start.addr());
    let count = len_bytes.checked_div(size_of::<Entry>()).unwrap_or(0);
    // SAFETY: the linker puts the section's entries, and nothing else, between the two symbols, so that many are initialised there,
    // in one loaded object, which is less than `isize::MAX` bytes. Each is three words without gaps, aligned to 4 by the assembly.
    // The section is not writable, and stays as long as the code that reads it does.
    unsafe { core::slice::from_raw_parts(start, count) }
}

/// Says whether the linker left the entries out.
pub(super) fn is_empty() -> bool {
    // An access of this function's own, so that there is an entry, and with it the section, in every program that
    // asks.
    let byte = 1u8;
    // SAFETY: a local that nobody else uses.
    let read = unsafe { u8::load(&raw const byte) };
    read.is_err() || entries().is_empty()
}

/// Returns where to go on after a fault of the instruction at an address, if that is an access to guest memory.
pub(super) fn recovery(address: usize) -> Option<usize> {
    let entry = entries()
        .iter()
        .find(|entry| (target(&entry.start)..target(&entry.end)).contains(&address))?;
    Some(target(&entry.recovery))
}

/// Returns the address that is so far from where the distance stands.
fn target(distance: &i32) -> usize {
    core::ptr::from_ref(distance)
        .addr()
        .wrapping_add_signed(*distance as isize)
}
