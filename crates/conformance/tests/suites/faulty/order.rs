// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Memory that marks at the wrong time.

use std::sync::atomic::Ordering;

use guest_memory_bitmap::{ArcSlice, Bitmap};
use guest_memory_conformance::kept;
use guest_memory_conformance::mark_order::Witness;
use guest_memory_core::{Bytes, BytesExt, GuestAddress, GuestMemoryRegion};
use guest_memory_volatile::{
    AtomicAccess, ReadVolatile, VolatileMemoryError, VolatileSlice, WriteVolatile,
};

use crate::toys::ToyRegion;

/// What is wrong with the marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OrderFault {
    WriteMarksFirst,
    ObjectMarksFirst,
    StoreMarksFirst,
    StreamMarksFirst,
    BrokenStreamIsNotMarked,
    CutWriteIsNotMarked,
    SecondHalfMarksFirst,
    ExchangeIsNotMarked,
    AndMarksFirst,
    FillMarksFirst,
    CutFillIsNotMarked,
    ZeroMarksFirst,
}

impl OrderFault {
    /// Each fault and a word that the report has to hold.
    pub(crate) const ALL: [(Self, &str); 7] = [
        (Self::WriteMarksFirst, "before the data"),
        (Self::ObjectMarksFirst, "before the data"),
        (Self::StoreMarksFirst, "before the data"),
        (Self::StreamMarksFirst, "before the data"),
        (Self::BrokenStreamIsNotMarked, "expected a mark"),
        (Self::CutWriteIsNotMarked, "expected a mark"),
        (Self::SecondHalfMarksFirst, "before the data"),
    ];

    /// Those of the methods beyond [`Bytes`].
    pub(crate) const EXTENDED: [(Self, &str); 5] = [
        (Self::ExchangeIsNotMarked, "expected a mark"),
        (Self::AndMarksFirst, "before the data"),
        (Self::FillMarksFirst, "before the data"),
        (Self::CutFillIsNotMarked, "expected a mark"),
        (Self::ZeroMarksFirst, "before the data"),
    ];
}

type Result<T> = std::result::Result<T, VolatileMemoryError>;

/// Memory with a fault; its bytes are leaked.
#[derive(Debug)]
pub(crate) struct FaultyOrder {
    slice: VolatileSlice<'static, ArcSlice<Witness>>,
    fault: Option<OrderFault>,
}

impl FaultyOrder {
    pub(crate) fn new(fault: Option<OrderFault>, len: usize, witness: &Witness) -> Self {
        let region = kept(ToyRegion::new(GuestAddress(0), len));
        let slice = region
            .as_volatile_slice()
            .expect("a toy region has a slice");
        Self {
            slice: slice.replace_bitmap(witness.slice_at(0)),
            fault,
        }
    }

    fn has(&self, fault: OrderFault) -> bool {
        self.fault == Some(fault)
    }

    /// The same bytes, whose writes are not marked.
    fn unmarked(&self) -> VolatileSlice<'static> {
        self.slice.clone().replace_bitmap(())
    }
}

impl Bytes<usize> for FaultyOrder {
    type E = VolatileMemoryError;

    fn write(&self, buf: &[u8], addr: usize) -> Result<usize> {
        if self.has(OrderFault::WriteMarksFirst) {
            let room = self.slice.len().saturating_sub(addr);
            self.slice.bitmap().mark_dirty(addr, buf.len().min(room));
            return self.unmarked().write(buf, addr);
        }
        self.slice.write(buf, addr)
    }

    fn read(&self, buf: &mut [u8], addr: usize) -> Result<usize> {
        self.slice.read(buf, addr)
    }

    fn write_slice(&self, buf: &[u8], addr: usize) -> Result<()> {
        let is_cut = addr + buf.len() > self.slice.len();
        if self.has(OrderFault::CutWriteIsNotMarked) && is_cut {
            return self.unmarked().write_slice(buf, addr);
        }
        if self.has(OrderFault::SecondHalfMarksFirst) && !is_cut {
            let (first, rest) = buf.split_at(buf.len() / 2);
            self.unmarked().write_slice(first, addr)?;
            self.slice.bitmap().mark_dirty(addr, buf.len());
            return self.unmarked().write_slice(rest, addr + first.len());
        }
        self.slice.write_slice(buf, addr)
    }

    fn read_slice(&self, buf: &mut [u8], addr: usize) -> Result<()> {
        self.slice.read_slice(buf, addr)
    }

    fn write_obj<T: guest_memory_volatile::ByteValued>(&self, val: T, addr: usize) -> Result<()> {
        if self.has(OrderFault::ObjectMarksFirst) {
            self.slice.bitmap().mark_dirty(addr, size_of::<T>());
            return self.unmarked().write_obj(val, addr);
        }
        self.slice.write_obj(val, addr)
    }

    fn read_volatile_from<F: ReadVolatile>(
        &self,
        addr: usize,
        src: &mut F,
        count: usize,
    ) -> Result<usize> {
        if self.has(OrderFault::StreamMarksFirst) {
            self.slice.bitmap().mark_dirty(addr, count);
            return self.unmarked().read_volatile_from(addr, src, count);
        }
        self.slice.read_volatile_from(addr, src, count)
    }

    fn read_exact_volatile_from<F: ReadVolatile>(
        &self,
        addr: usize,
        src: &mut F,
        count: usize,
    ) -> Result<()> {
        if self.has(OrderFault::BrokenStreamIsNotMarked) {
            self.unmarked().read_exact_volatile_from(addr, src, count)?;
            self.slice.bitmap().mark_dirty(addr, count);
            return Ok(());
        }
        self.slice.read_exact_volatile_from(addr, src, count)
    }

    fn write_volatile_to<F: WriteVolatile>(
        &self,
        addr: usize,
        dst: &mut F,
        count: usize,
    ) -> Result<usize> {
        self.slice.write_volatile_to(addr, dst, count)
    }

    fn write_all_volatile_to<F: WriteVolatile>(
        &self,
        addr: usize,
        dst: &mut F,
        count: usize,
    ) -> Result<()> {
        self.slice.write_all_volatile_to(addr, dst, count)
    }

    fn store<T: AtomicAccess>(&self, val: T, addr: usize, order: Ordering) -> Result<()> {
        if self.has(OrderFault::StoreMarksFirst) {
            self.slice.bitmap().mark_dirty(addr, size_of::<T>());
            return self.unmarked().store(val, addr, order);
        }
        self.slice.store(val, addr, order)
    }

    fn load<T: AtomicAccess>(&self, addr: usize, order: Ordering) -> Result<T> {
        self.slice.load(addr, order)
    }
}

/// Writes read-modify-writes in terms of the slice's.
macro_rules! of_the_slice {
    ($($name:ident)*) => {$(
        fn $name<T: AtomicAccess>(&self, val: T, addr: usize, order: Ordering) -> Result<T> {
            self.slice.$name(val, addr, order)
        }
    )*};
}

impl BytesExt<usize> for FaultyOrder {
    fn compare_exchange<T: AtomicAccess>(
        &self,
        current: T,
        new: T,
        addr: usize,
        success: Ordering,
        failure: Ordering,
    ) -> Result<std::result::Result<T, T>> {
        if self.has(OrderFault::ExchangeIsNotMarked) {
            let unmarked = self.unmarked();
            return unmarked.compare_exchange(current, new, addr, success, failure);
        }
        self.slice
            .compare_exchange(current, new, addr, success, failure)
    }

    of_the_slice! { swap fetch_add fetch_or fetch_xor }

    fn fetch_and<T: AtomicAccess>(&self, val: T, addr: usize, order: Ordering) -> Result<T> {
        if self.has(OrderFault::AndMarksFirst) {
            self.slice.bitmap().mark_dirty(addr, size_of::<T>());
            return self.unmarked().fetch_and(val, addr, order);
        }
        self.slice.fetch_and(val, addr, order)
    }

    fn fill(&self, value: u8, addr: usize, count: usize) -> Result<()> {
        let is_cut = addr + count > self.slice.len();
        if self.has(OrderFault::CutFillIsNotMarked) && is_cut {
            return BytesExt::fill(&self.unmarked(), value, addr, count);
        }
        let marks_first = self.has(OrderFault::FillMarksFirst)
            || (self.has(OrderFault::ZeroMarksFirst) && value == 0);
        if marks_first {
            self.slice.bitmap().mark_dirty(addr, count);
            return BytesExt::fill(&self.unmarked(), value, addr, count);
        }
        BytesExt::fill(&self.slice, value, addr, count)
    }

    fn is_zero(&self, addr: usize, count: usize) -> Result<bool> {
        BytesExt::is_zero(&self.slice, addr, count)
    }
}
