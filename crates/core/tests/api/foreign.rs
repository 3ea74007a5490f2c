// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Memories of others that have only the required methods, and some that break their contract.

use std::cell::Cell;
use std::iter::FusedIterator;
use std::sync::atomic::Ordering;

use guest_memory_bitmap::{AtomicBitmap, BS};
use guest_memory_core::{
    Bytes, BytesExt, GuestAddress, GuestMemory, GuestMemoryError as Error, GuestMemoryRegion,
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
        assert!(lied(memory.fill(1, at, 8).unwrap_err()));
        assert!(lied(memory.is_zero(at, 8).unwrap_err()));
        assert!(lied(memory.swap(1u64, at, Ordering::SeqCst).unwrap_err()));
        let mut out = Vec::new();
        assert!(lied(memory.write_volatile_to(at, &mut out, 8).unwrap_err()));
        assert!(out.is_empty());
    }
}

/// Memory whose short path gives windows of another length than asked for; notes what it was asked for.
struct LyingAtOnce {
    below: GuestRegionCollection<Toy>,
    /// How many bytes more; `None`: there is no short path.
    more: Option<isize>,
    asked: Cell<Permissions>,
}

impl LyingAtOnce {
    fn new(more: Option<isize>) -> Self {
        Self {
            below: memory(&[(0x100, 16, Kind::Ram), (0x110, 32, Kind::Ram)]),
            more,
            asked: Cell::new(Permissions::No),
        }
    }
}

impl IoMemory for LyingAtOnce {
    type PhysicalMemory = GuestRegionCollection<Toy>;
    type Bitmap = AtomicBitmap;

    fn check_range(&self, addr: GuestAddress, count: usize, access: Permissions) -> bool {
        IoMemory::check_range(&self.below, addr, count, access)
    }

    fn get_slices<'a>(
        &'a self,
        addr: GuestAddress,
        count: usize,
        access: Permissions,
    ) -> GuestMemoryResult<impl GuestMemorySliceIterator<'a, BS<'a, AtomicBitmap>>> {
        self.asked.set(access);
        IoMemory::get_slices(&self.below, addr, count, access)
    }

    fn single_slice(
        &self,
        addr: GuestAddress,
        count: usize,
        access: Permissions,
    ) -> Option<VolatileSlice<'_, BS<'_, AtomicBitmap>>> {
        self.asked.set(access);
        let count = count.saturating_add_signed(self.more?);
        self.below.get_slice(addr, count).ok()
    }
}

#[test]
fn a_window_of_another_length_on_the_short_path_changes_nothing() {
    for more in [-8, -1, 0, 1, 8] {
        let memory = LyingAtOnce::new(Some(more));
        let at = GuestAddress(0x110);
        memory.fill(7, at, 16).unwrap();
        assert_eq!(memory.read_obj::<[u8; 16]>(at).unwrap(), [7; 16], "{more}");
        assert!(memory.is_zero(GuestAddress(0x120), 16).unwrap(), "{more}");
        memory.zero(at, 15).unwrap();
        assert!(memory.is_zero(at, 15).unwrap(), "{more}");
        assert!(!memory.is_zero(at, 16).unwrap(), "{more}");
        let added = memory.fetch_add(1u64, at, Ordering::SeqCst);
        assert_eq!(added.is_ok(), more >= 0, "{more}");
        let sum = memory.read_obj::<u64>(at).unwrap();
        assert_eq!(sum, u64::from(more >= 0), "{more}");
    }
}

#[test]
fn a_read_modify_write_needs_both_permissions_and_the_rest_its_own() {
    for more in [None, Some(0)] {
        let memory = LyingAtOnce::new(more);
        let at = GuestAddress(0x110);
        memory.swap(1u32, at, Ordering::SeqCst).unwrap();
        assert_eq!(memory.asked.get(), Permissions::ReadWrite);
        memory.fill(0, at, 4).unwrap();
        assert_eq!(memory.asked.get(), Permissions::Write);
        memory.is_zero(at, 4).unwrap();
        assert_eq!(memory.asked.get(), Permissions::Read);
        let exchanged = memory.compare_exchange(0u32, 1, at, Ordering::SeqCst, Ordering::SeqCst);
        exchanged.unwrap().unwrap();
        assert_eq!(memory.asked.get(), Permissions::ReadWrite);
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
