// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A region of one's own, and the suite that says whether it behaves: memory that lies in a vector of this program.
//!
//! `cargo run --example custom_region`
#![expect(unsafe_code, reason = "makes windows on the region's own bytes")]

use std::error::Error;
use std::sync::atomic::AtomicU64;

use guest_memory::bitmap::{AtomicBitmap, BS, Bitmap, NewBitmap};
use guest_memory::{
    Bytes, GuestAddress, GuestMemory, GuestMemoryRegion, GuestMemoryRegionBytes, GuestMemoryResult,
    GuestRegionCollection, GuestUsize, MemoryRegionAddress, VolatileSlice,
};
use guest_memory_conformance::region;

/// Memory in a vector of atomics, so that it may change under a shared reference.
struct VecRegion {
    start: GuestAddress,
    len: usize,
    words: Vec<AtomicU64>,
    bitmap: AtomicBitmap,
}

impl VecRegion {
    fn new(start: GuestAddress, len: usize) -> Self {
        Self {
            start,
            len,
            words: (0..len.div_ceil(8)).map(|_| AtomicU64::new(0)).collect(),
            bitmap: AtomicBitmap::with_len(len),
        }
    }
}

/// Three methods say what the region is, the fourth gives a window on its bytes. All others have defaults.
impl GuestMemoryRegion for VecRegion {
    type B = AtomicBitmap;

    fn len(&self) -> GuestUsize {
        self.len as GuestUsize
    }

    fn start_addr(&self) -> GuestAddress {
        self.start
    }

    fn bitmap(&self) -> &AtomicBitmap {
        &self.bitmap
    }

    fn get_slice(
        &self,
        offset: MemoryRegionAddress,
        count: usize,
    ) -> GuestMemoryResult<VolatileSlice<'_, BS<'_, AtomicBitmap>>> {
        let start = self.words.as_ptr().cast_mut().cast();
        let bitmap = self.bitmap.slice_at(0);
        // SAFETY: the words are at least `len` initialised bytes, live as long as the region is borrowed, and no
        // reference covers them but those to atomics.
        let whole = unsafe { VolatileSlice::with_bitmap(start, self.len, bitmap, None) };
        // An offset that no vector has is past the end of this one.
        let offset = usize::try_from(offset.0).unwrap_or(usize::MAX);
        Ok(whole.subslice(offset, count)?)
    }
}

/// Brings the access methods.
impl GuestMemoryRegionBytes for VecRegion {}

fn main() -> Result<(), Box<dyn Error>> {
    // Hundreds of random scripts beside a naive model; a panic says what was expected.
    region::check(VecRegion::new);
    println!("the region behaves as a region must");

    // It goes where a mapped region goes.
    let regions = vec![
        VecRegion::new(GuestAddress(0), 0x1000),
        VecRegion::new(GuestAddress(0x1000), 0x1000),
    ];
    let memory = GuestRegionCollection::from_regions(regions)?;
    memory.write_obj(0x0102_0304_u32, GuestAddress(0xffe))?;
    assert_eq!(memory.read_obj::<u16>(GuestAddress(0x1000))?, 0x0102);
    let second = memory
        .find_region(GuestAddress(0x1000))
        .ok_or("no region")?;
    assert!(second.bitmap().dirty_at(0));
    println!("a write went over the border of two of them");
    Ok(())
}
