// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Memories of others that have only the required methods, and some that break their contract.

use std::iter::FusedIterator;
use std::sync::atomic::Ordering;

use guest_memory_bitmap::{AtomicBitmap, BS};
use guest_memory_core::{
    Bytes, GuestAddress, GuestMemory, GuestMemoryError as Error, GuestMemoryRegion,
    GuestMemoryResult, GuestMemorySliceIterator, GuestRegionCollection, GuestRegionCollectionError,
    IoMemory, Permissions, VolatileMemoryError,
};
use guest_memory_volatile::VolatileSlice;

use crate::toy::{Kind, Toy, memory};

/// What a memory does wrong.
#[derive(Clone, Copy)]
enum Lie {
    None,
    /// Its windows go on behind the range asked for.
    TooLong,
    /// Its walk has empty windows without end.
    Empty,
}

/// Memory with a device's view of its own: addresses are those of the memory below plus an offset.
struct Shifted {
    below: GuestRegionCollection<Toy>,
    offset: u64,
    lie: Lie,
}

impl Shifted {
    fn new(lie: Lie) -> Self {
        let below = memory(&[(0x100, 16, Kind::Ram), (0x110, 32, Kind::Ram)]);
        Self {
            below,
            offset: 0x1000,
            lie,
        }
    }
}

struct Walk<I>(I);

impl<I: Iterator> Iterator for Walk<I> {
    type Item = I::Item;

    fn next(&mut self) -> Option<I::Item> {
        self.0.next()
    }
}

impl<I: FusedIterator> FusedIterator for Walk<I> {}

impl<'a, I> GuestMemorySliceIterator<'a, BS<'a, AtomicBitmap>> for Walk<I> where
    I: FusedIterator<Item = GuestMemoryResult<VolatileSlice<'a, BS<'a, AtomicBitmap>>>>
{
}

impl IoMemory for Shifted {
    type PhysicalMemory = GuestRegionCollection<Toy>;
    type Bitmap = AtomicBitmap;

    fn check_range(&self, addr: GuestAddress, count: usize, access: Permissions) -> bool {
        IoMemory::check_range(
            &self.below,
            GuestAddress(addr.0 - self.offset),
            count,
            access,
        )
    }

    fn get_slices<'a>(
        &'a self,
        addr: GuestAddress,
        count: usize,
        access: Permissions,
    ) -> GuestMemoryResult<impl GuestMemorySliceIterator<'a, BS<'a, AtomicBitmap>>> {
        let addr = GuestAddress(addr.0.wrapping_sub(self.offset));
        let (count, cycles) = match self.lie {
            Lie::None => (count, 1),
            Lie::TooLong => (count + 4, 1),
            Lie::Empty => (0, usize::MAX),
        };
        let empty = move || self.below.get_slice(GuestAddress(0x100), 0);
        let walk = IoMemory::get_slices(&self.below, addr, count, access)?;
        let empties = std::iter::repeat_with(empty).take(if cycles > 1 { cycles } else { 0 });
        Ok(Walk(walk.chain(empties).fuse()))
    }
}

#[test]
fn the_required_methods_are_enough_for_every_access() {
    let memory = Shifted::new(Lie::None);
    let at = GuestAddress(0x1108);
    memory.write_obj(7u32, at).unwrap();
    assert_eq!(memory.read_obj::<u32>(at).unwrap(), 7);
    memory.store(9u32, at, Ordering::Release).unwrap();
    assert_eq!(memory.load::<u32>(at, Ordering::Acquire).unwrap(), 9);
    memory.write_slice(&[3; 20], at).unwrap();
    assert_eq!(memory.read_obj::<[u8; 20]>(at).unwrap(), [3; 20]);
    let mut source: &[u8] = &[4; 20];
    memory
        .read_exact_volatile_from(at, &mut source, 20)
        .unwrap();
    assert!(matches!(
        memory.load::<u64>(GuestAddress(0x110c), Ordering::Acquire),
        Err(Error::Access {
            source: VolatileMemoryError::OutOfBounds { addr: 4 },
            ..
        })
    ));
    assert!(matches!(
        memory.store(1u8, GuestAddress(0x1), Ordering::Relaxed),
        Err(Error::InvalidGuestAddress(_))
    ));
}

#[test]
fn windows_that_are_too_long_or_empty_make_an_error() {
    for lie in [Lie::TooLong, Lie::Empty] {
        let memory = Shifted::new(lie);
        let at = GuestAddress(0x1110);
        let lied = |error| matches!(error, Error::SliceLength { expected: 8, .. });
        assert!(lied(memory.write_slice(&[1; 8], at).unwrap_err()));
        assert!(lied(memory.read(&mut [0; 8], at).unwrap_err()));
        assert!(lied(memory.store(1u64, at, Ordering::Relaxed).unwrap_err()));
        let mut source: &[u8] = &[1; 64];
        assert!(lied(
            memory.read_volatile_from(at, &mut source, 8).unwrap_err()
        ));
        assert_eq!(source.len(), 64);
        let mut out = Vec::new();
        assert!(lied(memory.write_volatile_to(at, &mut out, 8).unwrap_err()));
        assert!(out.is_empty());
    }
}

#[test]
fn a_bitmap_that_does_not_cover_its_region_is_refused() {
    use GuestRegionCollectionError::BitmapTooShort;

    let region = || Toy::with_bitmap(0x100, 64, AtomicBitmap::default());
    let refused = GuestRegionCollection::from_regions(vec![region()]).unwrap_err();
    assert_eq!(
        refused,
        BitmapTooShort {
            start: GuestAddress(0x100),
            len: 64,
            tracked: 0
        }
    );
    let refused = GuestRegionCollection::new()
        .insert_region(region().into())
        .unwrap_err();
    assert_eq!(
        refused,
        BitmapTooShort {
            start: GuestAddress(0x100),
            len: 64,
            tracked: 0
        }
    );
    assert_eq!(region().len(), 64);
}
