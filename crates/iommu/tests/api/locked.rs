// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! An IOMMU with the required methods alone: a table behind a lock.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{RwLock, RwLockReadGuard};

use guest_memory_core::{GuestAddress, Permissions};
use guest_memory_iommu::{Error, Iommu, Iotlb, IotlbIterator};

#[derive(Debug, Default)]
pub(crate) struct Locked {
    pub(crate) table: RwLock<Iotlb>,
    /// Calls of `translate`.
    pub(crate) asked: AtomicUsize,
}

impl Iommu for Locked {
    type IotlbGuard<'a> = RwLockReadGuard<'a, Iotlb>;

    fn translate(
        &self,
        iova: GuestAddress,
        length: usize,
        access: Permissions,
    ) -> Result<IotlbIterator<RwLockReadGuard<'_, Iotlb>>, Error> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let table = self.table.read().unwrap();
        Iotlb::lookup(table, iova, length, access).map_err(|fails| fails.into_error(access))
    }
}
