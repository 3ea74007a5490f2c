// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A guest memory and its answers. Compiled twice, once for each library.

use std::num::NonZeroUsize;
use std::sync::Arc;

use super::access::{access, copy, cut};
use super::names::{
    AtomicBitmap, Bitmap, GuestAddress, GuestMemory, GuestMemoryMmap, GuestMemoryRegion,
    GuestRegionMmap, MemoryRegionAddress, MmapRegionBuilder, guest_failure, map_failure,
};
use crate::differential::transcript::{
    Answer, Failure, Look, LookInRegion, Mark, Op, Progress, RegionState, Seen, answer, done,
    result,
};

type Region = GuestRegionMmap<AtomicBitmap>;
type Memory = GuestMemoryMmap<AtomicBitmap>;

/// A memory of one of the two libraries.
pub(in crate::differential) struct Subject {
    memory: Memory,
    page_size: NonZeroUsize,
}

impl Subject {
    /// Makes a memory of zeroes; the ranges are starts and lengths in bytes.
    pub(in crate::differential) fn new(
        ranges: &[(u64, usize)],
        page_size: NonZeroUsize,
    ) -> Result<Self, Failure> {
        let regions = ranges
            .iter()
            .map(|&(start, len)| region(start, len, page_size));
        let regions = regions.collect::<Result<Vec<_>, _>>()?;
        let memory = Memory::from_regions(regions).map_err(|error| map_failure(&error))?;
        Ok(Self { memory, page_size })
    }

    /// Makes a memory that holds what another one does.
    pub(in crate::differential) fn from_state(
        state: &[RegionState],
        page_size: NonZeroUsize,
    ) -> Result<Self, Failure> {
        if state.is_empty() {
            let memory = Memory::new();
            return Ok(Self { memory, page_size });
        }
        let ranges: Vec<_> = state
            .iter()
            .map(|region| (region.start, region.bytes.len()))
            .collect();
        let subject = Self::new(&ranges, page_size)?;
        for (region, held) in subject.memory.iter().zip(state) {
            if let Ok(slice) = region.as_volatile_slice() {
                slice.copy_from(&held.bytes);
            }
            let mapping = region.get_mmap();
            mapping.bitmap().reset();
            let pages = held.dirty_pages.iter().enumerate();
            for (page, _) in pages.filter(|page| *page.1) {
                mapping.bitmap().set_bit(page);
            }
        }
        Ok(subject)
    }

    /// Returns what the memory holds.
    pub(in crate::differential) fn state(&self) -> Vec<RegionState> {
        let state = |region: &Region| {
            let slice = region.as_volatile_slice().expect("a mapped region");
            let mut bytes = vec![0; slice.len()];
            slice.copy_to(&mut bytes);
            let mapping = region.get_mmap();
            let bitmap = mapping.bitmap();
            RegionState {
                start: region.start_addr().0,
                bytes,
                dirty_pages: (0..bitmap.len())
                    .map(|page| bitmap.is_bit_set(page))
                    .collect(),
            }
        };
        self.memory.iter().map(state).collect()
    }

    /// Does an operation.
    pub(in crate::differential) fn apply(&mut self, operation: &Op) -> Seen {
        match operation {
            Op::Memory(addr, call) => {
                access(&self.memory, GuestAddress(*addr), call, guest_failure)
            }
            Op::Region(number, offset, call) => {
                let region = self.region(*number);
                access(region, MemoryRegionAddress(*offset), call, guest_failure)
            }
            Op::Slice(addr, count, offset, call) => {
                match self.memory.get_slice(GuestAddress(*addr), *count) {
                    Ok(slice) => access(&slice, *offset, call, super::names::volatile_failure),
                    Err(error) => answer(Answer::Failed(guest_failure(&error))),
                }
            }
            Op::Cut(addr, count, question) => {
                match self.memory.get_slice(GuestAddress(*addr), *count) {
                    Ok(slice) => cut(&slice, question),
                    Err(error) => answer(Answer::Failed(guest_failure(&error))),
                }
            }
            Op::Copy([from, to]) => {
                let slice = |(addr, count)| self.memory.get_slice(GuestAddress(addr), count);
                match (slice(*from), slice(*to)) {
                    (Ok(from), Ok(to)) => copy(&from, to),
                    (Err(error), _) | (_, Err(error)) => {
                        answer(Answer::Failed(guest_failure(&error)))
                    }
                }
            }
            Op::Look(addr, question) => look(&self.memory, *addr, question),
            Op::LookInRegion(number, offset, question) => {
                look_in_region(self.region(*number), *offset, question)
            }
            Op::Bitmap(number, call) => mark(self.region(*number).get_mmap().bitmap(), *call),
            Op::Insert(start, len) => {
                let inserted = region(*start, *len, self.page_size).and_then(|region| {
                    let grown = self.memory.insert_region(Arc::new(region));
                    grown.map_err(|error| map_failure(&error))
                });
                answer(result(inserted, |grown| {
                    self.memory = grown;
                    Answer::Done
                }))
            }
            Op::Remove(start, len) => {
                let removed = self.memory.remove_region(GuestAddress(*start), *len);
                let removed = removed.map_err(|error| map_failure(&error));
                answer(result(removed, |(shrunk, removed)| {
                    self.memory = shrunk;
                    Answer::Pair(Some((removed.start_addr().0, removed.len())))
                }))
            }
            Op::FromRanges(ranges) => {
                let made = Self::new(ranges, self.page_size);
                answer(result(made, |made| {
                    *self = made;
                    Answer::Done
                }))
            }
        }
    }

    fn region(&self, number: usize) -> &Region {
        self.memory
            .iter()
            .nth(number)
            .expect("a region that is there")
    }
}

fn region(start: u64, len: usize, page_size: NonZeroUsize) -> Result<Region, Failure> {
    let bitmap = AtomicBitmap::new(len, page_size);
    // The defaults of the two differ.
    let mapping = MmapRegionBuilder::new_with_bitmap(len, bitmap)
        .with_mmap_prot(libc::PROT_READ | libc::PROT_WRITE)
        .with_mmap_flags(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE)
        .build();
    let mapping = mapping.map_err(|_| Failure::NotMade)?;
    Region::new(mapping, GuestAddress(start)).ok_or(Failure::NotMade)
}

fn look(memory: &Memory, addr: u64, question: &Look) -> Seen {
    let at = GuestAddress(addr);
    let region = |region: &Region| (region.start_addr().0, region.len());
    answer(match *question {
        Look::FindRegion => Answer::Pair(memory.find_region(at).map(region)),
        Look::ToRegionAddr => {
            let found = memory.to_region_addr(at);
            Answer::Pair(found.map(|(region, offset)| (region.start_addr().0, offset.0)))
        }
        Look::AddressInRange => Answer::Flag(memory.address_in_range(at)),
        Look::CheckAddress => Answer::Address(memory.check_address(at).map(|at| at.0)),
        Look::CheckRange(len) => Answer::Flag(memory.check_range(at, len)),
        Look::CheckedOffset(offset) => {
            Answer::Address(memory.checked_offset(at, offset).map(|at| at.0))
        }
        Look::GetHostAddress => {
            let found = memory
                .get_host_address(at)
                .map_err(|error| guest_failure(&error));
            result(found, |_| Answer::Done)
        }
        Look::GetSlice(count) => {
            let found = memory
                .get_slice(at, count)
                .map_err(|error| guest_failure(&error));
            result(found, |slice| Answer::Count(slice.len()))
        }
        Look::GetSlices(count) => {
            let lens = memory.get_slices(at, count).map(|slice| match slice {
                Ok(slice) => Ok(slice.len() as u64),
                Err(error) => Err(guest_failure(&error)),
            });
            result(lens.collect(), Answer::Words)
        }
        Look::LastAddr => Answer::Address(Some(memory.last_addr().0)),
        Look::NumRegions => Answer::Count(memory.num_regions()),
        Look::TryAccess(count, progress) => {
            let mut data = Vec::new();
            let found = memory.try_access(count, at, |done, len, offset, region| {
                for number in [done as u64, len as u64, offset.0, region.start_addr().0] {
                    data.extend(number.to_le_bytes());
                }
                Ok(match progress {
                    Progress::All => len,
                    Progress::Half => len / 2,
                    Progress::None => 0,
                    Progress::More => len + 1,
                })
            });
            let found = found.map_err(|error| guest_failure(&error));
            let answer = result(found, Answer::Count);
            return Seen { answer, data };
        }
    })
}

fn look_in_region(region: &Region, offset: u64, question: &LookInRegion) -> Seen {
    let at = MemoryRegionAddress(offset);
    answer(match *question {
        LookInRegion::CheckAddress => Answer::Address(region.check_address(at).map(|at| at.0)),
        LookInRegion::AddressInRange => Answer::Flag(region.address_in_range(at)),
        LookInRegion::CheckedOffset(more) => {
            Answer::Address(region.checked_offset(at, more).map(|at| at.0))
        }
        LookInRegion::GetHostAddress => {
            let found = region
                .get_host_address(at)
                .map_err(|error| guest_failure(&error));
            result(found, |_| Answer::Done)
        }
        LookInRegion::GetSlice(count) => {
            let found = region
                .get_slice(at, count)
                .map_err(|error| guest_failure(&error));
            result(found, |slice| Answer::Count(slice.len()))
        }
        LookInRegion::LastAddr => Answer::Address(Some(region.last_addr().0)),
        LookInRegion::ToRegionAddr => {
            let found = region.to_region_addr(GuestAddress(offset));
            Answer::Address(found.map(|at| at.0))
        }
    })
}

fn mark(bitmap: &AtomicBitmap, call: Mark) -> Seen {
    match call {
        Mark::SetRange(start, len) => bitmap.set_addr_range(start, len),
        Mark::ResetRange(start, len) => bitmap.reset_addr_range(start, len),
        Mark::SetBit(page) => bitmap.set_bit(page),
        Mark::ResetBit(page) => bitmap.reset_bit(page),
        Mark::Reset => bitmap.reset(),
        Mark::GetAndReset => return answer(Answer::Words(bitmap.get_and_reset())),
        Mark::DirtyAt(offset) => return answer(Answer::Flag(bitmap.dirty_at(offset))),
        Mark::ThroughSlice(base, offset, len) => bitmap.slice_at(base).mark_dirty(offset, len),
    }
    done()
}
