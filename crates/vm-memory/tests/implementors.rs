// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Types that implement the traits of `vm-memory` 0.18 with its signatures and only what it requires.
//!
//! That callers' code compiles is what `api/compare` checks; that implementors' code compiles is checked here, and
//! that what they implement is used. The one signature that differs is `GuestMemoryRegion::bitmap`.

#![cfg(all(feature = "backend-mmap", feature = "backend-bitmap"))]
#![expect(
    unsafe_code,
    reason = "some of the traits are unsafe to implement, and a region makes a slice of its bytes"
)]

use std::io::Cursor;
use std::ops::{BitAnd, BitOr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};

use vm_memory::bitmap::{
    ArcSlice, AtomicBitmap, BS, Bitmap, BitmapSlice, NewBitmap, WithBitmapSlice,
};
use vm_memory::guest_memory::{GuestMemorySliceIterator, Result as MemoryResult};
use vm_memory::volatile_memory::Result as VolatileResult;
use vm_memory::{
    Address, AddressValue, AtomicAccess, AtomicInteger, ByteValued, Bytes, GuestAddress,
    GuestAddressSpace, GuestMemory, GuestMemoryBackend, GuestMemoryError, GuestMemoryMmap,
    GuestMemoryRegion, GuestMemoryRegionBytes, GuestRegionCollection, GuestUsize,
    MemoryRegionAddress, Permissions, ReadVolatile, VolatileMemory, VolatileMemoryError,
    VolatileSlice, WriteVolatile,
};

/// A bitmap of the user's own: it counts the bytes that were marked.
#[derive(Clone, Debug, Default)]
struct Counter(Arc<AtomicUsize>);

impl WithBitmapSlice<'_> for Counter {
    type S = Self;
}

impl BitmapSlice for Counter {}

impl Bitmap for Counter {
    fn mark_dirty(&self, _offset: usize, len: usize) {
        self.0.fetch_add(len, Ordering::Relaxed);
    }

    fn dirty_at(&self, _offset: usize) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }

    fn slice_at(&self, _offset: usize) -> <Self as WithBitmapSlice<'_>>::S {
        self.clone()
    }
}

impl NewBitmap for Counter {
    fn with_len(_len: usize) -> Self {
        Self::default()
    }
}

#[test]
fn a_bitmap_of_the_users_own_is_marked() {
    let memory = GuestMemoryMmap::<Counter>::from_ranges(&[(GuestAddress(0), 0x2000)]).unwrap();
    memory
        .write_slice(&[1; 0x300], GuestAddress(0xfff))
        .unwrap();
    memory.write_obj(7u64, GuestAddress(8)).unwrap();
    let region = memory.find_region(GuestAddress(0)).unwrap();
    // The line that ports: `bitmap()` gives the bitmap, `slice_at(0)` what 0.18 gave.
    let slice: BS<'_, Counter> = region.bitmap().slice_at(0);
    assert_eq!(slice.0.load(Ordering::Relaxed), 0x308);
}

/// A region of the user's own, on bytes of its own.
struct Heap {
    start: GuestAddress,
    bytes: Box<[AtomicUsize]>,
    bitmap: ArcSlice<AtomicBitmap>,
}

impl Heap {
    fn new(start: u64, words: usize) -> Self {
        let bitmap = Arc::new(AtomicBitmap::with_len(words * size_of::<usize>()));
        Self {
            start: GuestAddress(start),
            bytes: (0..words).map(|_| AtomicUsize::new(0)).collect(),
            bitmap: ArcSlice::new(bitmap, 0),
        }
    }
}

impl GuestMemoryRegion for Heap {
    type B = ArcSlice<AtomicBitmap>;

    fn len(&self) -> GuestUsize {
        size_of_val(&*self.bytes) as GuestUsize
    }

    fn start_addr(&self) -> GuestAddress {
        self.start
    }

    fn bitmap(&self) -> &Self::B {
        &self.bitmap
    }

    fn get_slice(
        &self,
        offset: MemoryRegionAddress,
        count: usize,
    ) -> MemoryResult<VolatileSlice<'_, BS<'_, Self::B>>> {
        let offset = usize::try_from(offset.raw_value())
            .map_err(|_| GuestMemoryError::GuestAddressOverflow)?;
        let (start, len) = (self.bytes.as_ptr(), size_of_val(&*self.bytes));
        let start = start.cast::<u8>().cast_mut();
        // SAFETY: the words live as long as `self`, are atomics, and `len` is the size of all of them.
        let whole =
            unsafe { VolatileSlice::with_bitmap(start, len, self.bitmap.slice_at(0), None) };
        Ok(whole.subslice(offset, count)?)
    }
}

impl GuestMemoryRegionBytes for Heap {}

#[test]
fn a_region_of_the_users_own_is_written_through_a_collection() {
    let memory =
        GuestRegionCollection::from_regions(vec![Heap::new(0, 512), Heap::new(0x1000, 512)])
            .unwrap();
    memory
        .write_slice(b"across two regions", GuestAddress(0xffc))
        .unwrap();
    let mut back = [0; 18];
    memory.read_slice(&mut back, GuestAddress(0xffc)).unwrap();
    assert_eq!(&back, b"across two regions");
    let second = memory.find_region(GuestAddress(0x1000)).unwrap();
    assert!(second.bitmap().dirty_at(13) && !second.bitmap().dirty_at(0x2000));
    assert!(matches!(
        second.get_host_address(MemoryRegionAddress(0)),
        Err(GuestMemoryError::HostAddressNotAvailable)
    ));
}

/// A memory of the user's own that only says what its regions are.
struct Two([Heap; 2]);

impl GuestMemoryBackend for Two {
    type R = Heap;

    fn iter(&self) -> impl Iterator<Item = &Heap> {
        self.0.iter()
    }
}

#[test]
fn a_memory_that_only_lists_its_regions_has_all_of_the_access() {
    let memory = Two([Heap::new(0, 512), Heap::new(0x4000, 512)]);
    assert_eq!(memory.num_regions(), 2);
    assert_eq!(memory.last_addr(), GuestAddress(0x4fff));
    memory
        .store(5u32, GuestAddress(0x4010), Ordering::Release)
        .unwrap();
    assert_eq!(
        memory
            .load::<u32>(GuestAddress(0x4010), Ordering::Acquire)
            .unwrap(),
        5
    );
    assert!(matches!(
        memory.read_obj::<u8>(GuestAddress(0x1000)),
        Err(GuestMemoryError::InvalidGuestAddress(GuestAddress(0x1000)))
    ));
    assert!(matches!(
        memory.write_slice(&[0; 8], GuestAddress(0xffc)),
        Err(GuestMemoryError::PartialBuffer {
            expected: 8,
            completed: 4
        })
    ));
}

/// A memory with permissions of the user's own: addresses below `limit` are read-only.
struct Guarded {
    memory: GuestMemoryMmap,
    limit: GuestAddress,
}

impl GuestMemory for Guarded {
    type PhysicalMemory = GuestMemoryMmap;
    type Bitmap = ();

    fn check_range(&self, addr: GuestAddress, count: usize, access: Permissions) -> bool {
        (addr >= self.limit || !access.has_write())
            && GuestMemoryBackend::check_range(&self.memory, addr, count)
    }

    fn get_slices<'a>(
        &'a self,
        addr: GuestAddress,
        count: usize,
        access: Permissions,
    ) -> MemoryResult<impl GuestMemorySliceIterator<'a, BS<'a, Self::Bitmap>>> {
        if addr < self.limit && access.has_write() {
            return Err(GuestMemoryError::InvalidGuestAddress(addr));
        }
        Ok(GuestMemoryBackend::get_slices(&self.memory, addr, count))
    }
}

#[test]
fn a_memory_with_permissions_of_its_own_is_asked_before_every_access() {
    let memory = Guarded {
        memory: GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x2000)]).unwrap(),
        limit: GuestAddress(0x1000),
    };
    memory.write_obj(3u32, GuestAddress(0x1000)).unwrap();
    assert_eq!(memory.read_obj::<u32>(GuestAddress(0x1000)).unwrap(), 3);
    assert_eq!(memory.read_obj::<u32>(GuestAddress(0)).unwrap(), 0);
    assert!(memory.write_obj(3u32, GuestAddress(0)).is_err());
    assert!(memory.physical_memory().is_none());
}

/// An address space of the user's own.
#[derive(Clone)]
struct Space(Arc<Guarded>);

impl GuestAddressSpace for Space {
    type M = Guarded;
    type T = Arc<Guarded>;

    fn memory(&self) -> Self::T {
        self.0.clone()
    }
}

#[test]
fn an_address_space_of_the_users_own_gives_its_memory() {
    let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x1000)]).unwrap();
    let space = Space(Arc::new(Guarded {
        memory,
        limit: GuestAddress(0),
    }));
    space.memory().write_obj(1u8, GuestAddress(0)).unwrap();
    assert!(GuestMemory::check_range(
        &*space.memory(),
        GuestAddress(0),
        1,
        Permissions::ReadWrite
    ));
}

/// A stream of the user's own: every byte is its place.
struct Counting(u8);

impl ReadVolatile for Counting {
    fn read_volatile<B: BitmapSlice>(
        &mut self,
        buf: &mut VolatileSlice<'_, B>,
    ) -> Result<usize, VolatileMemoryError> {
        for at in 0..buf.len() {
            buf.write_obj(self.0, at)?;
            self.0 = self.0.wrapping_add(1);
        }
        Ok(buf.len())
    }
}

/// And one that adds up what is written.
struct Sum(u64);

impl WriteVolatile for Sum {
    fn write_volatile<B: BitmapSlice>(
        &mut self,
        buf: &VolatileSlice<'_, B>,
    ) -> Result<usize, VolatileMemoryError> {
        let mut bytes = vec![0u8; buf.len()];
        buf.copy_to(&mut bytes);
        self.0 += bytes.iter().map(|&byte| u64::from(byte)).sum::<u64>();
        Ok(buf.len())
    }
}

#[test]
fn streams_of_the_users_own_go_in_and_out() {
    let ranges = [(GuestAddress(0), 0x1000), (GuestAddress(0x1000), 0x1000)];
    let memory = GuestMemoryMmap::<()>::from_ranges(&ranges).unwrap();
    let at = GuestAddress(0xff0);
    memory
        .read_exact_volatile_from(at, &mut Counting(0), 32)
        .unwrap();
    let mut sum = Sum(0);
    memory.write_all_volatile_to(at, &mut sum, 32).unwrap();
    assert_eq!(sum.0, (0..32u64).sum::<u64>());
    let mut cursor = Cursor::new(vec![9u8; 4]);
    memory.read_exact_volatile_from(at, &mut cursor, 4).unwrap();
    assert_eq!(memory.read_obj::<[u8; 5]>(at).unwrap(), [9, 9, 9, 9, 4]);
}

/// Plain bytes and an atomic type of the user's own.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(transparent)]
struct Index(u16);

// SAFETY: a `u16` in a transparent wrapper.
unsafe impl ByteValued for Index {}

impl From<u16> for Index {
    fn from(raw: u16) -> Self {
        Self(raw)
    }
}

impl From<Index> for u16 {
    fn from(index: Index) -> Self {
        index.0
    }
}

impl AtomicAccess for Index {
    type A = AtomicU16;
}

#[test]
fn plain_types_of_the_users_own_are_moved() {
    let memory = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), 0x1000)]).unwrap();
    memory
        .store(Index(0x1234), GuestAddress(2), Ordering::Release)
        .unwrap();
    assert_eq!(
        memory.read_obj::<Index>(GuestAddress(2)).unwrap(),
        Index(0x1234)
    );
    assert_eq!(<AtomicU16 as AtomicInteger>::new(3).into_inner(), 3);
    assert_eq!(Index::zeroed(), Index(0));
    assert_eq!(Index::from_slice(&[0]), None);
}

/// Volatile memory of the user's own.
struct Array(Box<[AtomicUsize; 4]>);

impl VolatileMemory for Array {
    type B = ();

    fn len(&self) -> usize {
        size_of_val(&*self.0)
    }

    fn get_slice(&self, offset: usize, count: usize) -> VolatileResult<VolatileSlice<'_, ()>> {
        let start = self.0.as_ptr().cast::<u8>().cast_mut();
        // SAFETY: the words live as long as `self`, are atomics, and `len()` is the size of all of them.
        let whole = unsafe { VolatileSlice::new(start, self.len()) };
        whole.subslice(offset, count)
    }
}

#[test]
fn volatile_memory_of_the_users_own_gives_references() {
    let array = Array(Box::new([const { AtomicUsize::new(0) }; 4]));
    array.get_ref::<u32>(4).unwrap().store(7);
    assert_eq!(array.get_array_ref::<u32>(0, 3).unwrap().load(1), 7);
    assert!(matches!(
        array.get_ref::<u32>(array.len() - 3),
        Err(VolatileMemoryError::OutOfBounds { .. })
    ));
}

/// An address of the user's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Frame(u32);

impl AddressValue for Frame {
    type V = u32;
}

impl BitAnd<u32> for Frame {
    type Output = Self;
    fn bitand(self, mask: u32) -> Self {
        Self(self.0 & mask)
    }
}

impl BitOr<u32> for Frame {
    type Output = Self;
    fn bitor(self, mask: u32) -> Self {
        Self(self.0 | mask)
    }
}

impl Address for Frame {
    fn new(addr: u32) -> Self {
        Self(addr)
    }
    fn raw_value(&self) -> u32 {
        self.0
    }
    fn checked_offset_from(&self, base: Self) -> Option<u32> {
        self.0.checked_sub(base.0)
    }
    fn checked_add(&self, other: u32) -> Option<Self> {
        self.0.checked_add(other).map(Self)
    }
    fn overflowing_add(&self, other: u32) -> (Self, bool) {
        let (sum, over) = self.0.overflowing_add(other);
        (Self(sum), over)
    }
    fn unchecked_add(&self, other: u32) -> Self {
        Self(self.0 + other)
    }
    fn checked_sub(&self, other: u32) -> Option<Self> {
        self.0.checked_sub(other).map(Self)
    }
    fn overflowing_sub(&self, other: u32) -> (Self, bool) {
        let (difference, over) = self.0.overflowing_sub(other);
        (Self(difference), over)
    }
    fn unchecked_sub(&self, other: u32) -> Self {
        Self(self.0 - other)
    }
}

#[test]
fn an_address_of_the_users_own_is_aligned_and_masked() {
    assert_eq!(Frame(0x1234).mask(0xff), 0x34);
    assert_eq!(Frame(0x1234).checked_align_up(0x1000), Some(Frame(0x2000)));
    assert_eq!(Frame(u32::MAX).checked_align_up(0x1000), None);
    assert_eq!(Frame(9).unchecked_offset_from(Frame(4)), 5);
}
