// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The standard library's.

pub(crate) use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::thread;
use std::time::Duration;

/// Looks before a waiter begins to sleep in between.
const LOOKS: u32 = 200;

/// Lets others go on, for longer after many looks.
pub(crate) fn pause(looks: u32) {
    match looks < LOOKS {
        true => thread::yield_now(),
        false => thread::sleep(Duration::from_micros(50)),
    }
}
