// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A lock that waits with the operating system.

use super::{Mutex, MutexGuard};

/// Turns of harvesters at one log.
pub(crate) struct Turn(Mutex<()>);

/// The turn of who holds it.
pub(crate) type TurnGuard<'a> = MutexGuard<'a, ()>;

impl Default for Turn {
    fn default() -> Self {
        Self(Mutex::new(()))
    }
}

impl Turn {
    /// Waits for a turn.
    ///
    /// # Panics
    ///
    /// Panics if somebody panicked in theirs: what they had taken is lost.
    pub(crate) fn wait(&self) -> TurnGuard<'_> {
        self.0
            .lock()
            .expect("a harvest of this dirty log panicked, and lost what it had taken")
    }
}
