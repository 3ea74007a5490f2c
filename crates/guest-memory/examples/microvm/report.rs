// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The tables that a run prints.

use guest_memory::bitmap::GuestDirtyPages;
use guest_memory::{GuestAddress, GuestMemory, MemoryTable};

use crate::console::say;
use crate::dirty::union;
use crate::layout::{Memory, PAGE_BYTES, PAGE_LEN, size_text};
use crate::vm::Slots;

/// Prints the memory map; `slots` are KVM's, if KVM runs the guest.
pub(crate) fn print_map(memory: &Memory, slots: Option<&Slots>) {
    say!("memory map:");
    let table = MemoryTable::new(memory).with_column("KVM slot", |region| {
        let slot = slots.and_then(|slots| slots.number(region));
        slot.map_or_else(|| "none".to_owned(), |slot| slot.to_string())
    });
    for line in table.to_string().lines() {
        say!("  {line}");
    }
}

/// Prints what became of the policies, if there are any.
pub(crate) fn print_policies(memory: &Memory) {
    let entries = memory.iter().flat_map(|region| {
        let label = region.label().unwrap_or("-");
        region.policies().iter().map(move |entry| (label, entry))
    });
    for (index, (label, entry)) in entries.enumerate() {
        if index == 0 {
            say!("policies:");
        }
        say!("  {label:<8}  {entry}");
    }
}

/// Prints the written ranges: pages in KVM's log, if there is one, or in the library's bitmap.
pub(crate) fn print_dirty(logged: Option<&GuestDirtyPages>, marked: &GuestDirtyPages) {
    let either = logged.map_or_else(|| marked.clone(), |logged| union(logged, marked));
    say!(
        "dirty ranges, {} pages of {}:",
        either.count(),
        size_text(PAGE_BYTES)
    );
    for (start, len_bytes) in either.ranges() {
        let end = start.0 + len_bytes;
        let is_in = |pages: &GuestDirtyPages| {
            let mut addresses = (start.0..end).step_by(PAGE_LEN).map(GuestAddress);
            addresses.any(|address| pages.contains(address))
        };
        let source = match (logged.is_some_and(is_in), is_in(marked)) {
            (true, true) => "KVM's log, library's bitmap",
            (true, false) => "KVM's log",
            (false, _) => "library's bitmap",
        };
        let text = format!("[{:#x}, {end:#x})", start.0);
        say!("  {text:<26} {:>9}  {source}", size_text(len_bytes));
    }
}
