// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Assembly on guest memory without a fault table: a fault is the operating system's affair.

/// Runs instructions of which one touches guest memory; is true if that faulted, so never.
macro_rules! guarded_access {
    ([$($line:expr),+ $(,)?] $($operands:tt)*) => {{
        ::core::arch::asm!($($line,)+ $($operands)*);
        false
    }};
}

/// Runs a loop over guest memory, and the lines in the second brackets, which follow it.
macro_rules! guarded_loop {
    ([$($line:expr),+ $(,)?] [$($end:expr),* $(,)?] $($operands:tt)*) => {
        ::core::arch::asm!($($line,)+ "3:", $($end,)* $($operands)*)
    };
}

pub(super) use {guarded_access, guarded_loop};
