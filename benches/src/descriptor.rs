// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The 16-byte object of the comparison: a virtio descriptor.
#![expect(unsafe_code, reason = "declares a plain struct to both libraries")]

/// A descriptor of a split virtqueue, in the host's byte order.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Descriptor {
    /// Guest address of the buffer.
    pub addr: u64,
    /// Length of the buffer, in bytes.
    pub len: u32,
    /// Whether another descriptor follows, and which way the bytes go.
    pub flags: u16,
    /// The descriptor that follows.
    pub next: u16,
}

// SAFETY: integers only, so any bytes are a value; 8 + 4 + 2 + 2 bytes in this order leave no padding.
unsafe impl guest_memory::ByteValued for Descriptor {}
// SAFETY: as above.
unsafe impl vm_memory::ByteValued for Descriptor {}
