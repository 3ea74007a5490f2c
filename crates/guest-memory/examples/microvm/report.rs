// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The tables that a run prints.

use crate::console::say;
use crate::dirty::DirtyPages;
use crate::layout::{Layout, PAGE_BYTES, size_text};
use crate::vm::Slots;

/// Prints the memory map; `slots` are KVM's, if KVM runs the guest.
pub(crate) fn print_map(layout: &Layout, slots: Option<&Slots>) {
    say!("memory map:");
    for line in layout.table(|region| slots.and_then(|slots| slots.number(region))) {
        say!("{line}");
    }
}

/// Prints the written ranges: pages in KVM's log, if there is one, or in the library's bitmap.
pub(crate) fn print_dirty(logged: Option<&DirtyPages>, marked: &DirtyPages) {
    let nothing = DirtyPages::default();
    let logged = logged.unwrap_or(&nothing);
    let either = logged.union(marked);
    say!(
        "dirty ranges, {} pages of {}:",
        either.page_count(),
        size_text(PAGE_BYTES)
    );
    for range in either.ranges() {
        let source = match (logged.intersects(&range), marked.intersects(&range)) {
            (true, true) => "KVM's log, library's bitmap",
            (true, false) => "KVM's log",
            (false, _) => "library's bitmap",
        };
        let text = format!("[{:#x}, {:#x})", range.start, range.end);
        say!(
            "  {text:<26} {:>9}  {source}",
            size_text(range.end - range.start)
        );
    }
}
