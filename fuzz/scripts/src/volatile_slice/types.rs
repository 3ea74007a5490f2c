// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Types of values that scripts access, and what their bytes are.

use guest_memory_volatile::ByteValued;

/// What buffers hold before they are read into.
pub(super) const FILL: u8 = 0xa5;

/// Runs `$body` with `$T` standing for the type that a number stands for: aligned ones and others, one without a size, one
/// of more bytes than any single access moves.
macro_rules! with_type {
    ($number:expr, $T:ident => $body:expr) => {
        match $number % 8 {
            0 => {
                type $T = u8;
                $body
            }
            1 => {
                type $T = u16;
                $body
            }
            2 => {
                type $T = u32;
                $body
            }
            3 => {
                type $T = u64;
                $body
            }
            4 => {
                type $T = [u8; 3];
                $body
            }
            5 => {
                type $T = [u64; 2];
                $body
            }
            6 => {
                type $T = [u8; 0];
                $body
            }
            _ => {
                type $T = [u16; 75];
                $body
            }
        }
    };
}

/// Runs `$body` with `$T` standing for an unsigned integer, `$A` for its atomic.
macro_rules! with_atomic {
    ($number:expr, $T:ident, $A:ident => $body:expr) => {
        match $number % 4 {
            0 => {
                type $T = u8;
                type $A = AtomicU8;
                $body
            }
            1 => {
                type $T = u16;
                type $A = AtomicU16;
                $body
            }
            2 => {
                type $T = u32;
                type $A = AtomicU32;
                $body
            }
            _ => {
                type $T = u64;
                type $A = AtomicU64;
                $body
            }
        }
    };
}

pub(super) use {with_atomic, with_type};

/// Makes the value of bytes that are as many as it has.
pub(super) fn value<T: ByteValued>(bytes: &[u8]) -> T {
    let mut value = T::zeroed();
    value.as_mut_slice().copy_from_slice(bytes);
    value
}
