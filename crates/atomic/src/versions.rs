// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Maps that are or were in force, each with its number, and the list of those that are still there.

use std::sync::{Arc, PoisonError, Weak};
use std::time::{Duration, Instant};

use crate::sync::{Condvar, Mutex, MutexGuard};

/// How often to look at maps whose end nobody reports.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// One map with its number, the first being 0.
pub(crate) struct Version<M> {
    // In this order: when the entry goes from the list, the map is gone.
    map: Arc<M>,
    entry: Entry<M>,
}

impl<M> Version<M> {
    #[inline]
    pub(crate) fn map(&self) -> &Arc<M> {
        &self.map
    }

    #[inline]
    pub(crate) fn generation(&self) -> u64 {
        self.entry.generation
    }
}

/// The maps that are still there.
pub(crate) struct Versions<M> {
    list: Mutex<Vec<Listed<M>>>,
    changed: Condvar,
}

struct Listed<M> {
    generation: u64,
    map: Weak<M>,
    /// Whether the version itself is there; if not, somebody may have taken its map out.
    is_held: bool,
}

/// What takes a version off the list when it goes.
struct Entry<M> {
    versions: Arc<Versions<M>>,
    generation: u64,
}

impl<M> Versions<M> {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            list: Mutex::new(Vec::new()),
            changed: Condvar::new(),
        })
    }

    /// Lists a map.
    pub(crate) fn enter(self: &Arc<Self>, map: Arc<M>, generation: u64) -> Arc<Version<M>> {
        let mut list = self.lock();
        list.retain(Listed::is_there);
        list.push(Listed {
            generation,
            map: Arc::downgrade(&map),
            is_held: true,
        });
        drop(list);
        let entry = Entry {
            versions: Arc::clone(self),
            generation,
        };
        Arc::new(Version { map, entry })
    }

    /// Waits until all maps with lower numbers are gone; returns how many are not, if the time is over before.
    pub(crate) fn wait_for_end_of_older(
        &self,
        generation: u64,
        timeout: Option<Duration>,
    ) -> Result<(), usize> {
        // A time too long to be reckoned with is none.
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut list = self.lock();
        loop {
            list.retain(Listed::is_there);
            let older = || list.iter().filter(|listed| listed.generation < generation);
            let count = older().count();
            if count == 0 {
                return Ok(());
            }
            let rest = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if rest.is_some_and(|rest| rest.is_zero()) {
                return Err(count);
            }
            // A version reports its end, a map that was taken out does not.
            let pause = if older().all(|listed| listed.is_held) {
                rest
            } else {
                Some(rest.map_or(LOOK_AGAIN, |rest| rest.min(LOOK_AGAIN)))
            };
            list = match pause {
                None => (self.changed.wait(list)).unwrap_or_else(PoisonError::into_inner),
                Some(pause) => {
                    let woken = self.changed.wait_timeout(list, pause);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Listed<M>>> {
        // No step leaves the list half changed.
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<M> Listed<M> {
    fn is_there(&self) -> bool {
        self.is_held || self.map.strong_count() > 0
    }
}

impl<M> Drop for Entry<M> {
    fn drop(&mut self) {
        let mut list = self.versions.lock();
        if let Some(listed) = list
            .iter_mut()
            .find(|listed| listed.generation == self.generation)
        {
            listed.is_held = false;
        }
        list.retain(Listed::is_there);
        drop(list);
        self.versions.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT_ONCE: Option<Duration> = Some(Duration::ZERO);

    #[test]
    fn a_version_is_listed_until_it_is_gone() {
        let versions = Versions::new();
        let (old, new) = (
            versions.enter(Arc::new("old"), 0),
            versions.enter(Arc::new("new"), 1),
        );
        assert_eq!(versions.wait_for_end_of_older(0, AT_ONCE), Ok(()));
        assert_eq!(versions.wait_for_end_of_older(1, AT_ONCE), Err(1));
        assert_eq!(versions.wait_for_end_of_older(2, AT_ONCE), Err(2));
        drop(old);
        assert_eq!(versions.wait_for_end_of_older(1, None), Ok(()));
        drop(new);
        assert!(versions.lock().is_empty());
    }

    #[test]
    fn a_map_that_was_taken_out_is_listed_until_it_is_gone() {
        let versions = Versions::new();
        let version = versions.enter(Arc::new("map"), 0);
        let map = Arc::clone(version.map());
        drop(version);
        let moment = Some(Duration::from_millis(3));
        assert_eq!(versions.wait_for_end_of_older(1, moment), Err(1));
        drop(map);
        assert_eq!(versions.wait_for_end_of_older(1, None), Ok(()));
    }
}
