// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A user's IOMMU as written for `vm-memory` 0.18: the required methods, its names, its ways to fail.

#![cfg(all(
    feature = "backend-mmap",
    feature = "backend-bitmap",
    feature = "iommu"
))]

use std::sync::{RwLock, RwLockReadGuard};

use vm_memory::bitmap::{AtomicBitmap, Bitmap, NewBitmap};
use vm_memory::iommu::{Error, Iommu, IommuMemory, Iotlb, IotlbIterator, IovaRange};
use vm_memory::{Bytes, GuestAddress, GuestMemory, GuestMemoryError, GuestMemoryMmap, Permissions};

#[derive(Debug, Default)]
struct Table(RwLock<Iotlb>);

impl Iommu for Table {
    type IotlbGuard<'a> = RwLockReadGuard<'a, Iotlb>;

    fn translate(
        &self,
        iova: GuestAddress,
        length: usize,
        access: Permissions,
    ) -> Result<IotlbIterator<RwLockReadGuard<'_, Iotlb>>, Error> {
        let table = self.0.read().expect("nobody panicked");
        Iotlb::lookup(table, iova, length, access).map_err(|fails| Error::CannotResolve {
            iova_range: IovaRange { base: iova, length },
            reason: format!("{} misses", fails.misses.len()),
        })
    }
}

#[test]
fn an_iommu_written_for_the_original_translates_marks_and_fails() {
    let below = GuestMemoryMmap::<AtomicBitmap>::from_ranges(&[(GuestAddress(0), 0x4000)]);
    let below = below.expect("a mapping");
    let mut memory = IommuMemory::new(
        below,
        Table::default(),
        true,
        AtomicBitmap::with_len(0x10_000),
    );
    let mut table = memory.iommu().0.write().expect("nobody panicked");
    table
        .set_mapping(
            GuestAddress(0x8000),
            GuestAddress(0x1000),
            0x1000,
            Permissions::ReadWrite,
        )
        .expect("a mapping");
    drop(table);

    memory
        .write_obj(7u32, GuestAddress(0x8010))
        .expect("mapped");
    let found = memory.get_backend().read_obj::<u32>(GuestAddress(0x1010));
    assert_eq!(found.expect("memory"), 7);
    assert!(memory.bitmap().dirty_at(0x8010));
    assert!(!memory.check_range(GuestAddress(0x8000), 0x1001, Permissions::Read));

    let error = memory.write_obj(7u32, GuestAddress(0x9000));
    let Err(GuestMemoryError::IommuError(Error::CannotResolve { iova_range, reason })) = error
    else {
        panic!("{error:?}");
    };
    assert_eq!(
        (iova_range.base, iova_range.length),
        (GuestAddress(0x9000), 4)
    );
    assert_eq!(reason, "1 misses");

    memory.set_iommu_enabled(false);
    assert_eq!(
        memory
            .read_obj::<u32>(GuestAddress(0x1010))
            .expect("memory"),
        7
    );
}
