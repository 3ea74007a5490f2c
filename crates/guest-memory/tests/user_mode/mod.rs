// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A virtual CPU in 64-bit user mode, where a nested KVM lets a guest run at full speed.

use guest_memory::GuestAddress;
use kvm_bindings::{kvm_segment, kvm_sregs};

/// Sets up paging by the tables at `top`, and flat segments.
pub(crate) fn enter_64_bit_mode(special: &mut kvm_sregs, top: GuestAddress) {
    special.cr3 = top.0;
    // Physical address extension.
    special.cr4 = 1 << 5;
    // Paging, the extension type that is always set, protected mode.
    special.cr0 = 1 << 31 | 1 << 4 | 1;
    // Long mode, enabled and active.
    special.efer = 1 << 8 | 1 << 10;
    let data = kvm_segment {
        base: 0,
        limit: u32::MAX,
        selector: 0x13,
        dpl: 3,
        type_: 0b0011,
        present: 1,
        db: 1,
        s: 1,
        g: 1,
        ..Default::default()
    };
    special.cs = kvm_segment {
        selector: 0x0b,
        type_: 0b1011,
        db: 0,
        l: 1,
        ..data
    };
    for segment in [
        &mut special.ds,
        &mut special.es,
        &mut special.fs,
        &mut special.gs,
        &mut special.ss,
    ] {
        *segment = data;
    }
}
