// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The tables that a run prints.

use guest_memory::GuestAddress;
use guest_memory::bitmap::GuestDirtyPages;

use crate::console::say;
use crate::dirty::union;
use crate::layout::{Layout, PAGE_BYTES, PAGE_LEN, size_text};
use crate::vm::Slots;

/// Prints the memory map; `slots` are KVM's, if KVM runs the guest.
pub(crate) fn print_map(layout: &Layout, slots: Option<&Slots>) {
    say!("memory map:");
    for line in layout.table(|region| slots.and_then(|slots| slots.number(region))) {
        say!("{line}");
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
