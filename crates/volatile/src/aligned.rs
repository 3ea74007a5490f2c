// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Memory for tests.

/// Words at an address that is a multiple of 8, which that of a `u64` need not be on targets of 32 bits.
#[repr(C, align(8))]
pub(crate) struct Aligned<const N: usize>(pub(crate) [u64; N]);
