// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Memory with a page in the middle that cannot be accessed, and a model of it.

use std::ops::Range;

use guest_memory::{GuestAddress, GuestMemory};

use crate::calls::Slice;
use crate::mapping::{Mapping, Memory, START, memory_of, page};

/// Five pages, the third of which cannot be accessed as it should; a dirty bit for each byte.
pub(crate) struct Holed {
    memory: Memory,
    /// What the memory should hold.
    model: Vec<u8>,
    mapping: Mapping,
}

impl Holed {
    /// Makes memory full of different bytes, without access to the hole.
    pub(crate) fn new() -> Self {
        Self::with_hole(libc::PROT_NONE)
    }

    /// Makes memory full of different bytes, with this protection of the hole.
    pub(crate) fn with_hole(prot: i32) -> Self {
        guest_memory::fault::install().unwrap();
        let mapping = Mapping::anonymous(5 * page());
        let memory = memory_of(mapping.region(1));
        let mut holed = Self {
            memory,
            model: Vec::new(),
            mapping,
        };
        holed.reset(|index| (index % 251).to_le_bytes()[0] + 1);
        holed.mapping.protect(hole(), prot);
        holed
    }

    /// Makes memory of zeroes, without access to the hole.
    pub(crate) fn zeroed() -> Self {
        let mut holed = Self::new();
        let all = libc::PROT_READ | libc::PROT_WRITE;
        holed.mapping.protect(hole(), all);
        holed.reset(|_| 0);
        holed.mapping.protect(hole(), libc::PROT_NONE);
        holed
    }

    fn reset(&mut self, byte: impl Fn(usize) -> u8) {
        self.model = (0..5 * page()).map(byte).collect();
        let slice = self.slice(0..self.model.len());
        slice.try_copy_from(&self.model).unwrap();
        self.take_dirty();
    }

    pub(crate) fn memory(&self) -> &Memory {
        &self.memory
    }

    pub(crate) fn slice(&self, range: Range<usize>) -> Slice<'_> {
        let at = address(range.start);
        self.memory.get_slice(at, range.len()).unwrap()
    }

    /// Borrows what the memory should hold.
    pub(crate) fn model(&self) -> &[u8] {
        &self.model
    }

    /// Takes over what an access is said to have written.
    pub(crate) fn expect(&mut self, at: usize, written: &[u8]) {
        self.model[at..at + written.len()].copy_from_slice(written);
    }

    /// Holds the bytes outside the hole against the model, and the dirty bits against what was written.
    #[track_caller]
    pub(crate) fn check(&self, written: Range<usize>, what: &dyn std::fmt::Debug) {
        for range in [0..hole().start, hole().end..self.model.len()] {
            let bytes = self.mapping.bytes(range.clone());
            if bytes != &self.model[range.clone()] {
                let model = self.model[range.clone()].iter();
                let different = bytes.iter().zip(model).position(|(a, b)| a != b);
                panic!(
                    "{what:?}: byte {:?} differs",
                    different.map(|at| at + range.start)
                );
            }
        }
        let mut expected = vec![0u64; self.model.len().div_ceil(64)];
        for index in written.clone() {
            expected[index / 64] |= 1 << (index % 64);
        }
        let dirty = self.take_dirty();
        if dirty != expected {
            let set = |index: &usize| dirty[index / 64] >> (index % 64) & 1 == 1;
            let all = 0..self.model.len();
            let first = all.clone().find(set);
            panic!(
                "{what:?}: {written:?} was written, {} bytes from {first:?} to {:?} are marked",
                all.clone().filter(set).count(),
                all.rev().find(set)
            );
        }
    }

    /// Holds the memory against the model, except where bytes are marked: those hold what was to be written from `at` on.
    #[track_caller]
    pub(crate) fn check_marked(&mut self, at: usize, data: &[u8], what: &dyn std::fmt::Debug) {
        let dirty = self.take_dirty();
        let words = dirty.iter().enumerate().filter(|(_, word)| **word != 0);
        let marked = words.flat_map(|(at, word)| {
            let set = (0..64).filter(move |bit| word >> bit & 1 == 1);
            set.map(move |bit| at * 64 + bit)
        });
        for index in marked {
            assert!(
                !hole().contains(&index),
                "{what:?}: byte {index} of the hole is marked"
            );
            self.model[index] = *data
                .get(index.wrapping_sub(at))
                .unwrap_or_else(|| panic!("{what:?}: byte {index} is marked"));
        }
        self.check(0..0, what);
    }

    pub(crate) fn is_marked(&self, at: usize) -> bool {
        let region = self.memory.find_region(START).unwrap();
        region.get_mmap().bitmap().is_addr_set(at)
    }

    pub(crate) fn take_dirty(&self) -> Vec<u64> {
        let region = self.memory.find_region(START).unwrap();
        region.get_mmap().bitmap().get_and_reset()
    }
}

/// Returns the bytes that cannot be accessed.
pub(crate) fn hole() -> Range<usize> {
    2 * page()..3 * page()
}

/// Returns the guest address of an offset.
pub(crate) fn address(offset: usize) -> GuestAddress {
    GuestAddress(START.0 + offset as u64)
}

/// Returns pairs of how many bytes before the hole an access starts and how long it is; it reaches into the hole.
///
/// Some reach beyond its other end.
pub(crate) fn crossings() -> Vec<(usize, usize)> {
    let mut lengths: Vec<usize> = (1..=17).collect();
    lengths.extend([
        31, 33, 63, 64, 65, 100, 127, 128, 200, 511, 512, 520, 1024, 1500,
    ]);
    let page = page();
    lengths.extend([page, page + 9, page + 600, 2 * page, 2 * page + 100]);
    let mut crossings = Vec::new();
    for len in lengths {
        let befores = (0..len).filter(|before| {
            *before <= page && (*before < 48 || before % 97 == 0 || len - before < 4)
        });
        crossings.extend(befores.map(|before| (before, len)));
    }
    crossings
}
