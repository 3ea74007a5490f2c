// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A lock where there is no operating system to wait with.

use core::hint;
use core::sync::atomic::{AtomicBool, Ordering};

/// A lock that waits by looking again.
#[derive(Default)]
pub(crate) struct Turn(AtomicBool);

/// The turn of who holds it.
pub(crate) struct TurnGuard<'a>(&'a AtomicBool);

impl Turn {
    pub(crate) fn wait(&self) -> TurnGuard<'_> {
        // Acquire: pairs with the release of the one before.
        while self.0.swap(true, Ordering::Acquire) {
            hint::spin_loop();
        }
        TurnGuard(&self.0)
    }
}

impl Drop for TurnGuard<'_> {
    fn drop(&mut self) {
        // Release: pairs with the acquire of the next one.
        self.0.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_ends_with_its_guard() {
        let turn = Turn::default();
        for _ in 0..2 {
            let guard = turn.wait();
            assert!(turn.0.load(Ordering::Relaxed));
            drop(guard);
            assert!(!turn.0.load(Ordering::Relaxed));
        }
    }
}
