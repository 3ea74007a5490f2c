// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A disk that notes which pages of guest memory it fills, to compare them with the dirty bitmaps.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex};

use blk::{DirtyLog, Disk, FileDisk, ID_LEN_BYTES};
use vm_memory::bitmap::BitmapSlice;
use vm_memory::{
    GuestAddressSpace, GuestMemoryAtomic, GuestMemoryBackend, GuestMemoryMmap, ReadVolatile,
    VolatileMemoryError, VolatileSlice, WriteVolatile,
};

pub(crate) type Memory = GuestMemoryMmap<DirtyLog>;

const PAGE_LEN_BYTES: usize = 4096;

/// The pages filled while one memory map was in force, as index of the region and of the page in it.
pub(crate) struct Filled {
    pub(crate) memory: Arc<Memory>,
    pub(crate) pages: BTreeSet<(usize, usize)>,
}

pub(crate) struct Recording {
    disk: FileDisk,
    memory: GuestMemoryAtomic<Memory>,
    filled: Mutex<Vec<Filled>>,
}

impl Recording {
    pub(crate) fn new(disk: FileDisk, memory: GuestMemoryAtomic<Memory>) -> Self {
        Self {
            disk,
            memory,
            filled: Mutex::default(),
        }
    }

    /// Returns what was noted for each memory map that the front end has set and the device has filled pages of.
    pub(crate) fn take(&self) -> Vec<Filled> {
        std::mem::take(&mut self.filled.lock().unwrap())
    }

    /// Notes that the bytes of this process `[start, start + len_bytes)` were filled.
    fn note(&self, start: usize, len_bytes: usize) {
        let memory = self.memory.memory().into_inner();
        let mut filled = self.filled.lock().unwrap();
        if !filled
            .last()
            .is_some_and(|last| Arc::ptr_eq(&last.memory, &memory))
        {
            filled.push(Filled {
                memory: Arc::clone(&memory),
                pages: BTreeSet::new(),
            });
        }
        let (index, base) = memory
            .iter()
            .map(|region| (region.as_ptr() as usize, region.size()))
            .enumerate()
            .find_map(|(index, (base, size))| {
                (base..base + size)
                    .contains(&start)
                    .then_some((index, base))
            })
            .expect("a buffer in the guest's memory");
        let (first, last) = (start - base, start - base + len_bytes - 1);
        let pages = first / PAGE_LEN_BYTES..=last / PAGE_LEN_BYTES;
        filled
            .last_mut()
            .unwrap()
            .pages
            .extend(pages.map(|page| (index, page)));
    }
}

impl Disk for Recording {
    fn len_bytes(&self) -> u64 {
        self.disk.len_bytes()
    }

    fn id(&self) -> [u8; ID_LEN_BYTES] {
        self.disk.id()
    }

    fn reader_at(&self, offset: u64) -> impl ReadVolatile + '_ {
        Noted {
            inner: self.disk.reader_at(offset),
            recording: self,
        }
    }

    fn writer_at(&self, offset: u64) -> impl WriteVolatile + '_ {
        self.disk.writer_at(offset)
    }

    fn flush(&self) -> io::Result<()> {
        self.disk.flush()
    }
}

struct Noted<'a, R> {
    inner: R,
    recording: &'a Recording,
}

impl<R: ReadVolatile> ReadVolatile for Noted<'_, R> {
    fn read_volatile<B: BitmapSlice>(
        &mut self,
        buf: &mut VolatileSlice<'_, B>,
    ) -> Result<usize, VolatileMemoryError> {
        let start = buf.ptr_guard().as_ptr() as usize;
        let len_bytes = self.inner.read_volatile(buf)?;
        if len_bytes > 0 {
            self.recording.note(start, len_bytes);
        }
        Ok(len_bytes)
    }

    fn read_vectored_volatile<B: BitmapSlice>(
        &mut self,
        bufs: &mut [VolatileSlice<'_, B>],
    ) -> Result<usize, VolatileMemoryError> {
        let len_bytes = self.inner.read_vectored_volatile(bufs)?;
        let mut left = len_bytes;
        for buf in bufs.iter().filter(|buf| !buf.is_empty()) {
            if left == 0 {
                break;
            }
            let here = left.min(buf.len());
            self.recording.note(buf.ptr_guard().as_ptr() as usize, here);
            left -= here;
        }
        Ok(len_bytes)
    }
}
