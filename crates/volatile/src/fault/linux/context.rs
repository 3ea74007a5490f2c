// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Where an interrupted thread goes on.
#![expect(
    clippy::cast_possible_truncation,
    reason = "a register holds an address"
)]

#[cfg(target_arch = "aarch64")]
mod register {
    pub(super) fn program_counter(context: &mut libc::ucontext_t) -> &mut u64 {
        &mut context.uc_mcontext.pc
    }
}

#[cfg(target_arch = "x86_64")]
mod register {
    #[expect(clippy::indexing_slicing, reason = "the C library gives the index")]
    pub(super) fn program_counter(context: &mut libc::ucontext_t) -> &mut i64 {
        &mut context.uc_mcontext.gregs[libc::REG_RIP as usize]
    }
}

/// Returns the address of the instruction that was interrupted.
pub(super) fn program_counter(context: &mut libc::ucontext_t) -> usize {
    *register::program_counter(context) as usize
}

/// Makes the thread go on at an address.
pub(super) fn set_program_counter(context: &mut libc::ucontext_t, address: usize) {
    *register::program_counter(context) = address as _;
}
