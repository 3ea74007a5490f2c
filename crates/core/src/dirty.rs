// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The dirty logs of all regions of a memory as one, in guest-physical addresses.

mod memory_log;
mod pages;
mod slot;

pub use memory_log::MemoryLog;
pub use pages::GuestDirtyPages;
pub use slot::{MemorySlot, MemorySlots, SlotError};
