// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Implementations of [`BytesExt`].

use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use guest_memory_bitmap::Bitmap;
use guest_memory_core::{Bytes, BytesExt};
use guest_memory_volatile::{AtomicAccess, ByteValued, LittleEndian, VolatileMemoryError};

use super::bytes::{BytesFault, FaultyBytes};

type Result<T> = std::result::Result<T, VolatileMemoryError>;

impl BytesExt<usize> for FaultyBytes {
    fn compare_exchange<T: AtomicAccess>(
        &self,
        current: T,
        new: T,
        addr: usize,
        success: Ordering,
        failure: Ordering,
    ) -> Result<std::result::Result<T, T>> {
        if self.has(BytesFault::ExchangeIgnoresExpected) {
            return self.slice.swap(new, addr, success).map(Ok);
        }
        if self.has(BytesFault::ExchangeIsLoadAndStore) {
            let before = self.slice.load::<T>(addr, success)?;
            if before.as_slice() != current.as_slice() {
                return Ok(Err(before));
            }
            return self.store_later(new, addr).map(|()| Ok(before));
        }
        let found = self
            .slice
            .compare_exchange(current, new, addr, success, failure)?;
        if self.has(BytesFault::FailedExchangeIsMarked) {
            self.slice.bitmap().mark_dirty(addr, size_of::<T>());
        }
        Ok(found)
    }

    fn swap<T: AtomicAccess>(&self, val: T, addr: usize, order: Ordering) -> Result<T> {
        self.slice.swap(val, addr, order)
    }

    fn fetch_add<T: AtomicAccess>(&self, val: T, addr: usize, order: Ordering) -> Result<T> {
        if self.has(BytesFault::AddIsLoadAndStore) {
            let before = self.slice.load::<T>(addr, order)?;
            // The sum, made elsewhere.
            let mut sum = [0u64];
            let elsewhere = sum.as_bytes();
            elsewhere.write_obj(before, 0)?;
            elsewhere.fetch_add(val, 0, order)?;
            let sum = elsewhere.read_obj::<T>(0)?;
            return self.store_later(sum, addr).map(|()| before);
        }
        let before = self.slice.fetch_add(val, addr, order)?;
        let sum = self.slice.load::<T>(addr, Ordering::Relaxed)?;
        if self.has(BytesFault::AddStopsAtMax) && is_less(sum, before) {
            let mut all_ones = T::zeroed();
            all_ones.as_mut_slice().fill(0xff);
            self.slice.store(all_ones, addr, Ordering::Relaxed)?;
        }
        Ok(before)
    }

    fn fetch_and<T: AtomicAccess>(&self, val: T, addr: usize, order: Ordering) -> Result<T> {
        let before = self.slice.fetch_and(val, addr, order)?;
        if self.has(BytesFault::AndReturnsNewValue) {
            return self.slice.load(addr, Ordering::Relaxed);
        }
        Ok(before)
    }

    fn fetch_or<T: AtomicAccess>(&self, val: T, addr: usize, order: Ordering) -> Result<T> {
        if self.has(BytesFault::OrOfNothingIsNotMarked) {
            let before = self.slice.load::<T>(addr, Ordering::Relaxed)?;
            let ored = before.as_slice().iter().zip(val.as_slice());
            if ored
                .into_iter()
                .all(|(before, val)| before | val == *before)
            {
                return Ok(before);
            }
        }
        self.slice.fetch_or(val, addr, order)
    }

    fn fetch_xor<T: AtomicAccess>(&self, val: T, addr: usize, order: Ordering) -> Result<T> {
        if self.has(BytesFault::XorIsLoadAndStore) {
            let before = self.slice.load::<T>(addr, order)?;
            let mut after = before;
            let places = after.as_mut_slice().iter_mut();
            places
                .zip(val.as_slice())
                .for_each(|(byte, val)| *byte ^= val);
            return self.store_later(after, addr).map(|()| before);
        }
        self.slice.fetch_xor(val, addr, order)
    }

    fn fill(&self, value: u8, addr: usize, count: usize) -> Result<()> {
        let room = self.slice.len().saturating_sub(addr);
        let count = match self {
            _ if self.has(BytesFault::FillIgnoresCut) && room > 0 => count.min(room),
            _ if self.has(BytesFault::FillMissesLastByte) && count <= room => {
                count.saturating_sub(1)
            }
            _ => count,
        };
        if self.has(BytesFault::FillIsNotMarked) {
            return BytesExt::fill(&self.unmarked(), value, addr, count);
        }
        BytesExt::fill(&self.slice, value, addr, count)
    }

    fn zero(&self, addr: usize, count: usize) -> Result<()> {
        let less = usize::from(self.has(BytesFault::ZeroMissesFirstByte) && count > 1);
        let has_room = addr < self.slice.len().saturating_sub(count);
        let less = if has_room { less } else { 0 };
        BytesExt::zero(&self.slice, addr.saturating_add(less), count - less)
    }

    fn is_zero(&self, addr: usize, count: usize) -> Result<bool> {
        if self.has(BytesFault::IsZeroLooksAtFirstWord) {
            return BytesExt::is_zero(&self.slice, addr, count.min(8));
        }
        let room = self.slice.len().saturating_sub(addr);
        if self.has(BytesFault::IsZeroFailsBehindOther) && count > room {
            return Err(VolatileMemoryError::OutOfBounds { addr });
        }
        BytesExt::is_zero(&self.slice, addr, count)
    }

    fn store_le<T: LittleEndian>(&self, val: T, addr: usize, order: Ordering) -> Result<()> {
        let mut val = val.swap_unless_little();
        if self.has(BytesFault::StoreLeIsBigEndian) {
            val.as_mut_slice().reverse();
        }
        self.store(val, addr, order)
    }
}

impl FaultyBytes {
    /// Stores when others have had their turn, also where one processor runs them all.
    fn store_later<T: AtomicAccess>(&self, val: T, addr: usize) -> Result<()> {
        thread::sleep(Duration::from_micros(1));
        self.slice.store(val, addr, Ordering::SeqCst)
    }
}

/// Compares as unsigned integers of the host's byte order.
fn is_less<T: ByteValued>(one: T, other: T) -> bool {
    let highest_first = |value: T| {
        let mut bytes = value.as_slice().to_vec();
        if cfg!(target_endian = "little") {
            bytes.reverse();
        }
        bytes
    };
    highest_first(one) < highest_first(other)
}
