// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a device would miss if nobody told it of changes.

use std::sync::Arc;

use guest_memory_core::{GuestAddress, Permissions};
use guest_memory_iommu::{Error, Iommu, Iotlb, IotlbIterator, IotlbSnapshot, SharedIotlb};

/// An IOMMU that says that its table never changes.
#[derive(Debug, Default)]
pub(crate) struct Silent(pub(crate) SharedIotlb);

impl Iommu for Silent {
    type IotlbGuard<'a> = IotlbSnapshot;

    fn translate(
        &self,
        iova: GuestAddress,
        length: usize,
        access: Permissions,
    ) -> Result<IotlbIterator<IotlbSnapshot>, Error> {
        self.0.translate(iova, length, access)
    }

    fn generation(&self) -> Option<u64> {
        Some(0)
    }

    fn snapshot(&self) -> Option<Arc<Iotlb>> {
        self.0.snapshot()
    }
}
