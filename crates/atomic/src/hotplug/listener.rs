// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What takes part in plugging and unplugging.

use std::error::Error;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use guest_memory_core::{GuestAddress, GuestMemoryRegion, GuestRegionCollection, GuestUsize};

/// Whoever keeps something for each region of a memory.
///
/// Each change is one call of [`prepare`](Self::prepare) and, if that returned `Ok`, one call of either
/// [`commit`](Self::commit) or [`rollback`](Self::rollback) with the same change. The three run in the thread that changes
/// the map, with further changes locked out: they must not plug or unplug memory or lock the map.
///
/// # What to do when
///
/// *Prepare* whatever can fail and can be undone: to plug, enter the region; to unplug, find out whether it can
/// go. *Commit* what cannot be undone: after an unplug, take the region out. Devices find the region from before the
/// commit of a plug, and do not find it any more before the commit of an unplug; what they began earlier may still be
/// under way.
///
/// The page of [`HotplugMemory`](crate::HotplugMemory) has the order of all steps and an example of a listener.
pub trait HotplugListener<R: GuestMemoryRegion> {
    /// Gets ready for the change, or refuses it.
    ///
    /// # Errors
    ///
    /// Any reason against the change, which reaches who asked for it as the
    /// [source](crate::HotplugError::Refused) of an error. The listener must be as before then: it is not rolled back.
    fn prepare(
        &mut self,
        change: &HotplugChange<'_, R>,
    ) -> Result<(), Box<dyn Error + Send + Sync>>;

    /// Completes the change, which can fail no more: the map is swapped already.
    fn commit(&mut self, change: &HotplugChange<'_, R>);

    /// Undoes what was prepared: another listener refused.
    fn rollback(&mut self, change: &HotplugChange<'_, R>);

    /// Returns a name for errors; without one of its own it is that of the type.
    fn name(&self) -> String {
        std::any::type_name::<Self>().to_owned()
    }
}

/// For a listener that is used otherwise too; the lock is held during each call.
impl<R: GuestMemoryRegion, L: HotplugListener<R> + ?Sized> HotplugListener<R> for Arc<Mutex<L>> {
    fn prepare(
        &mut self,
        change: &HotplugChange<'_, R>,
    ) -> Result<(), Box<dyn Error + Send + Sync>> {
        let mut listener = self.lock().unwrap_or_else(PoisonError::into_inner);
        listener.prepare(change)
    }

    fn commit(&mut self, change: &HotplugChange<'_, R>) {
        let mut listener = self.lock().unwrap_or_else(PoisonError::into_inner);
        listener.commit(change);
    }

    fn rollback(&mut self, change: &HotplugChange<'_, R>) {
        let mut listener = self.lock().unwrap_or_else(PoisonError::into_inner);
        listener.rollback(change);
    }

    fn name(&self) -> String {
        let listener = self.lock().unwrap_or_else(PoisonError::into_inner);
        listener.name()
    }
}

/// What is done with a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChangeKind {
    /// It joins the map.
    Plug,
    /// It leaves the map.
    Unplug,
}

impl fmt::Display for ChangeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plug => "plug",
            Self::Unplug => "unplug",
        })
    }
}

/// One region that joins or leaves a map.
pub struct HotplugChange<'a, R> {
    kind: ChangeKind,
    region: &'a Arc<R>,
    before: &'a GuestRegionCollection<R>,
    after: &'a GuestRegionCollection<R>,
}

impl<'a, R> HotplugChange<'a, R> {
    pub(super) fn new(
        kind: ChangeKind,
        region: &'a Arc<R>,
        before: &'a GuestRegionCollection<R>,
        after: &'a GuestRegionCollection<R>,
    ) -> Self {
        Self {
            kind,
            region,
            before,
            after,
        }
    }

    /// Returns what is done.
    pub fn kind(&self) -> ChangeKind {
        self.kind
    }

    /// Says whether the region joins the map.
    pub fn is_plug(&self) -> bool {
        self.kind == ChangeKind::Plug
    }

    /// Says whether the region leaves the map.
    pub fn is_unplug(&self) -> bool {
        self.kind == ChangeKind::Unplug
    }

    /// Returns the region; a listener that needs its memory keeps a clone until the commit of the unplug.
    pub fn region(&self) -> &'a Arc<R> {
        self.region
    }

    /// Returns the map as it was; for a region that a listener hears of when it is added, the map in force.
    pub fn before(&self) -> &'a GuestRegionCollection<R> {
        self.before
    }

    /// Returns the map as it will be, or is from the commit on; for a region that a listener hears of when it is added, the
    /// map in force.
    pub fn after(&self) -> &'a GuestRegionCollection<R> {
        self.after
    }
}

impl<R: GuestMemoryRegion> HotplugChange<'_, R> {
    /// Returns the region's first address.
    pub fn start_addr(&self) -> GuestAddress {
        self.region.start_addr()
    }

    /// Returns the region's size, in bytes.
    pub fn len(&self) -> GuestUsize {
        self.region.len()
    }
}

impl<R: GuestMemoryRegion> fmt::Debug for HotplugChange<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HotplugChange")
            .field("kind", &self.kind)
            .field("start", &self.start_addr())
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}
