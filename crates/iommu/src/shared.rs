// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! An IOTLB that many device threads read while it changes.

use std::ops::Deref;
use std::sync::{Arc, PoisonError};

use guest_memory_core::{GuestAddress, Permissions, TranslationError};

use crate::iommu::Iommu;
use crate::iotlb::{Iotlb, IotlbIterator};
use crate::mapping::MappedRange;
use crate::sync::{AtomicU64, Loaded, Mutex, Ordering, Slot};

/// An [`Iotlb`] that is changed through a shared reference while devices translate by it: an [`Iommu`] that has the
/// mappings it was told, and no others.
///
/// Who reads takes no lock and waits for nobody. Changes take turns, and each makes a new table that shares what has
/// not changed with the old one: its cost grows with the number of mappings, by a sixty-fourth of them.
/// [`update`](Self::update) makes several changes at once.
///
/// # What an invalidation promises
///
/// An access that begins after a change has returned is translated by the table after that change, or a later one; this
/// includes every [`IommuDevice`](crate::IommuDevice), whatever it has kept. *After* means that the thread of the access
/// has learnt of the return, as by a message or a lock. An access that is under way then may still end by the older
/// table; [`IommuMemory::wait_for_devices`](crate::IommuMemory::wait_for_devices) waits for those.
///
/// # Examples
///
/// ```
/// use guest_memory_core::{GuestAddress, Permissions};
/// use guest_memory_iommu::{Iommu, SharedIotlb};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let iotlb = SharedIotlb::new();
/// iotlb.set_mapping(GuestAddress(0x1000), GuestAddress(0x8000), 0x1000, Permissions::Read)?;
/// let error = iotlb.translate(GuestAddress(0x1ffc), 8, Permissions::Read).err().ok_or("a fault")?;
/// assert_eq!(error.to_string(), "read of 4 bytes at iova 0x2000 refused: not mapped");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
pub struct SharedIotlb {
    table: Slot<Iotlb>,
    generation: AtomicU64,
    writer: Mutex<()>,
}

/// A table as it was when somebody looked; it stays so while this lives. Found in the iterator that
/// [`SharedIotlb`]'s [`translate`](Iommu::translate) returns.
#[derive(Debug)]
pub struct IotlbSnapshot(Loaded<Iotlb>);

impl Deref for IotlbSnapshot {
    type Target = Iotlb;

    #[inline]
    fn deref(&self) -> &Iotlb {
        &self.0
    }
}

impl SharedIotlb {
    /// Makes one without a mapping.
    pub fn new() -> Self {
        Self::default()
    }

    /// Maps `[iova, iova + length)` to `[map_to, map_to + length)`, as [`Iotlb::set_mapping`].
    ///
    /// # Errors
    ///
    /// Those of [`Iotlb::set_mapping`].
    pub fn set_mapping(
        &self,
        iova: GuestAddress,
        map_to: GuestAddress,
        length: usize,
        perm: Permissions,
    ) -> Result<(), TranslationError> {
        self.update(|iotlb| iotlb.set_mapping(iova, map_to, length, perm))
    }

    /// Maps `[iova, iova + length)` to nothing, as [`Iotlb::invalidate_mapping`].
    pub fn invalidate_mapping(&self, iova: GuestAddress, length: usize) {
        self.update(|iotlb| iotlb.invalidate_mapping(iova, length));
    }

    /// Removes all mappings.
    pub fn invalidate_all(&self) {
        self.update(Iotlb::invalidate_all);
    }

    /// Makes several changes of which readers see all or none, and returns what `change` returns.
    ///
    /// `change` must not change this table by another call: that would wait for itself forever.
    ///
    /// # Panics
    ///
    /// If `change` does; nothing has changed then.
    ///
    /// # Examples
    ///
    /// A page moves, and no device finds it unmapped meanwhile:
    ///
    /// ```
    /// # use guest_memory_core::{GuestAddress, Permissions};
    /// # use guest_memory_iommu::{Error, Iommu, SharedIotlb};
    /// # fn main() -> Result<(), Error> {
    /// # let iotlb = SharedIotlb::new();
    /// # iotlb.set_mapping(GuestAddress(0x1000), GuestAddress(0x8000), 0x1000, Permissions::Read)?;
    /// iotlb.update(|table| {
    ///     table.invalidate_mapping(GuestAddress(0x1000), 0x1000);
    ///     table.set_mapping(GuestAddress(0x1000), GuestAddress(0x3000), 0x1000, Permissions::Read)
    /// })?;
    /// let found = iotlb.first_mapped(GuestAddress(0x1010), 4, Permissions::Read);
    /// assert_eq!(found.map(|range| range.base), Some(GuestAddress(0x3010)));
    /// # Ok(())
    /// # }
    /// ```
    pub fn update<T>(&self, change: impl FnOnce(&mut Iotlb) -> T) -> T {
        // A writer that panicked has left the table as it was.
        let _turn = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut table = Iotlb::clone(&self.table.load());
        let result = change(&mut table);
        self.table.store(table);
        // Behind the table: who loads this number, and then a table, gets this table or a later one. SeqCst: whoever
        // waits for devices afterwards has a fence that this must come before.
        self.generation.fetch_add(1, Ordering::SeqCst);
        result
    }
}

impl From<Iotlb> for SharedIotlb {
    fn from(iotlb: Iotlb) -> Self {
        Self {
            table: Slot::new(iotlb),
            ..Self::default()
        }
    }
}

impl Iommu for SharedIotlb {
    type IotlbGuard<'a> = IotlbSnapshot;

    #[inline]
    fn translate(
        &self,
        iova: GuestAddress,
        length: usize,
        access: Permissions,
    ) -> Result<IotlbIterator<IotlbSnapshot>, TranslationError> {
        let table = IotlbSnapshot(self.table.load());
        Iotlb::lookup(table, iova, length, access).map_err(|fails| fails.into_error(access))
    }

    #[inline]
    fn first_mapped(
        &self,
        iova: GuestAddress,
        length: usize,
        access: Permissions,
    ) -> Option<MappedRange> {
        self.table.load().first_mapped(iova, length, access)
    }

    #[inline]
    fn generation(&self) -> Option<u64> {
        // Pairs with the increment in `update`.
        Some(self.generation.load(Ordering::Acquire))
    }

    fn snapshot(&self) -> Option<Arc<Iotlb>> {
        Some(self.table.load_full())
    }
}
