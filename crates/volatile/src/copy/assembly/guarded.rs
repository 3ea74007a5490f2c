// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Assembly on guest memory with an entry in the fault table.
//!
//! An entry has three offsets, each relative to its own place: the first instruction that may fault, the end of these
//! instructions, and where to go on after a fault. The section's name is a C identifier, so the linker defines where it
//! starts and stops; `R` keeps linkers from dropping entries that nothing refers to.

/// Adds the table's entry for the instructions from label 2 to label 3; the argument is where to go on.
macro_rules! table_entry {
    ($recovery:literal) => {
        concat!(
            ".pushsection guest_memory_faults, \"aR\", @progbits\n",
            ".balign 4\n",
            ".long 2b - .\n",
            ".long 3b - .\n",
            ".long ",
            $recovery,
            " - .\n",
            ".popsection"
        )
    };
}

/// What a fault in a single access does: notes it and goes on.
#[cfg(target_arch = "x86_64")]
macro_rules! note_fault {
    () => {
        "mov {faulted:e}, 1\njmp 3b"
    };
}

/// What a fault in a single access does: notes it and goes on.
#[cfg(target_arch = "aarch64")]
macro_rules! note_fault {
    () => {
        "mov {faulted:w}, #1\nb 3b"
    };
}

/// Runs instructions of which one touches guest memory; is true if that faulted.
///
/// A fault goes on behind the instructions with nothing done, by way of a stub out of line.
macro_rules! guarded_access {
    ([$($line:expr),+ $(,)?] $($operands:tt)*) => {{
        let faulted: u32;
        ::core::arch::asm!(
            "2:",
            $($line,)+
            "3:",
            ".pushsection .text.unlikely.guest_memory_recovery, \"ax\", @progbits",
            "4:",
            $crate::copy::assembly::guard::note_fault!(),
            ".popsection",
            $crate::copy::assembly::guard::table_entry!("4b"),
            faulted = inout(reg) 0u32 => faulted,
            $($operands)*
        );
        faulted != 0
    }};
}

/// Runs a loop over guest memory whose operands always say how much is left.
///
/// A fault goes on with the lines in the second brackets, which follow the loop.
macro_rules! guarded_loop {
    ([$($line:expr),+ $(,)?] [$($end:expr),* $(,)?] $($operands:tt)*) => {
        ::core::arch::asm!(
            "2:",
            $($line,)+
            "3:",
            $($end,)*
            $crate::copy::assembly::guard::table_entry!("3b"),
            $($operands)*
        )
    };
}

pub(super) use {guarded_access, guarded_loop, note_fault, table_entry};
