// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A dirty log in memory that the caller maps and another process reads.
#![expect(unsafe_code, reason = "marks in memory that the caller maps")]

use alloc::boxed::Box;
use core::error::Error;
use core::fmt;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use crate::words;

/// A dirty log in memory that is shared with another process: the one of vhost, which a front end gives to a back end with
/// `SET_LOG_BASE`.
///
/// It has a bit for each page of 4 KiB of guest-physical memory, from address 0 on: page `p` is bit `p % 8` of byte `p / 8`.
///
/// The memory must stay accessible: a peer that truncates the log's file makes a mark a SIGBUS, which the fault guard for guest
/// memory does not catch. Logs should come as sealed memory files, or be given to a process that may end.
///
/// A barrier for all threads of this process does not reach writers and readers of others, so every mark is an atomic
/// read-modify-write, whether the bit is set or not.
///
/// It is marked by way of a [`SwappableLog`](crate::SwappableLog), where there is an example.
pub struct ExternalLog {
    /// # Invariants
    ///
    /// `[words, words + word_count)`, aligned to 8, and the `tail_len` bytes behind it are in one mapping, for reading and writing as
    /// long as `owner` lives, not more than `isize::MAX` bytes, initialised, and covered by no Rust reference other than to atomics.
    words: NonNull<AtomicU64>,
    word_count: usize,
    /// Fewer than the bytes of a word.
    tail_len: usize,
    /// What keeps the memory mapped.
    _owner: Box<dyn Send + Sync>,
}

// SAFETY: the memory is only accessed by atomics, which any thread may do, and the owner is `Send`.
unsafe impl Send for ExternalLog {}
// SAFETY: as above; shared access is by atomics only, and the owner is `Sync`.
unsafe impl Sync for ExternalLog {}

impl ExternalLog {
    /// Bytes of guest-physical memory that one bit stands for.
    pub const PAGE_SIZE: u64 = 4096;

    /// Makes a log of `len_bytes` bytes of memory at `address`, which `owner` keeps mapped.
    ///
    /// # Safety
    ///
    /// Until `owner` is dropped, `[address, address + len_bytes)`:
    ///
    /// 1. must stay mapped for reading and writing, in one mapping or allocation, and be initialised (fresh pages of the operating
    ///    system are);
    /// 2. must be no longer than `isize::MAX` bytes and not wrap;
    /// 3. must be covered by no Rust reference other than to atomics of 8 bytes, or of 1 byte behind the last 8; whoever else
    ///    accesses it in this process must do so by such atomics. What other processes do with it is their affair.
    ///
    /// # Errors
    ///
    /// [`ExternalLogError::Misaligned`] if `address` is not a multiple of 8.
    pub unsafe fn new(
        address: NonNull<u8>,
        len_bytes: usize,
        owner: impl Send + Sync + 'static,
    ) -> Result<Self, ExternalLogError> {
        let words = address.cast::<AtomicU64>();
        if !words.is_aligned() {
            return Err(ExternalLogError::Misaligned {
                address: address.addr().get(),
            });
        }
        Ok(Self {
            words,
            word_count: len_bytes / size_of::<u64>(),
            tail_len: len_bytes % size_of::<u64>(),
            _owner: Box::new(owner),
        })
    }

    /// Returns for how many pages there are bits.
    pub fn page_count(&self) -> u64 {
        self.words().len() as u64 * u64::from(u64::BITS)
            + self.tail().len() as u64 * u64::from(u8::BITS)
    }

    /// Tells whether page `page` is marked; `false` for one that has no bit.
    pub fn is_marked(&self, page: u64) -> bool {
        let Ok(page) = usize::try_from(page) else {
            return false;
        };
        let (word, mask) = words::position(page);
        // Acquire: pairs with the release in `mark`; who sees a mark sees the data.
        if let Some(word) = self.words().get(word) {
            return word.load(Ordering::Acquire) & mask.to_le() != 0;
        }
        let bit = page - self.word_count * words::BITS;
        self.tail()
            .get(bit / 8)
            .is_some_and(|byte| byte.load(Ordering::Acquire) >> (bit % 8) & 1 != 0)
    }

    /// Marks pages `first` to `last`, both included, as far as there are bits, after the caller stored the data.
    #[inline]
    pub(crate) fn mark(&self, first: u64, last: u64) {
        // Both fit: the log has less bits than there are addresses.
        let end = usize::try_from(last).map_or(usize::MAX, |last| last.saturating_add(1));
        let first = usize::try_from(first).unwrap_or(usize::MAX);
        let words = self.words();
        let tail_start = words.len() * words::BITS;
        words::for_each_mask(first..end.min(tail_start), |word, mask| {
            if let Some(word) = words.get(word) {
                // Release: who takes the bit sees the data. A read-modify-write even where the bit is set: it is what comes
                // before or after the take of another process. In memory the lowest page is the lowest bit of the lowest
                // byte, whatever the order of bytes here.
                word.fetch_or(mask.to_le(), Ordering::Release);
            }
        });
        if end > tail_start {
            self.mark_tail(first.max(tail_start) - tail_start, end - tail_start);
        }
    }

    /// Marks bits `[first, end)` of the tail, as far as they are there.
    #[cold]
    fn mark_tail(&self, first: usize, end: usize) {
        for (byte, bits) in self.tail().iter().zip((0usize..).step_by(8)) {
            let is_in = |bit: &usize| (first..end).contains(&(bits + bit));
            let mask = (0..8).filter(is_in).fold(0, |mask, bit| mask | 1 << bit);
            if mask != 0 {
                // Release: as in `mark`.
                byte.fetch_or(mask, Ordering::Release);
            }
        }
    }

    #[inline]
    fn words(&self) -> &[AtomicU64] {
        // SAFETY: the pointer is not null and, by this type's invariants, valid for reads and writes of that many atomics, which are
        // in one mapping, aligned and initialised: every pattern of bits is a valid `AtomicU64`. The owner lives as long as `self`, and
        // with it the mapping. The caller of `new` vouched for not more than `isize::MAX` bytes that do not wrap, and for nobody in this
        // process who accesses them other than by atomics.
        unsafe { core::slice::from_raw_parts(self.words.as_ptr(), self.word_count) }
    }

    /// The bytes after the last whole word.
    fn tail(&self) -> &[AtomicU8] {
        // SAFETY: by this type's invariants the words and the tail are in one mapping of at most `isize::MAX` bytes that does not wrap, and
        // the words end where the tail begins.
        let start = unsafe { self.words.add(self.word_count) };
        // SAFETY: as in `words`, for the bytes that follow; an `AtomicU8` needs no alignment.
        unsafe { core::slice::from_raw_parts(start.as_ptr().cast::<AtomicU8>(), self.tail_len) }
    }
}

/// The number of pages.
impl fmt::Debug for ExternalLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExternalLog")
            .field("page_count", &self.page_count())
            .finish_non_exhaustive()
    }
}

/// A log that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExternalLogError {
    /// The log's address is not a multiple of 8.
    Misaligned {
        /// The address.
        address: usize,
    },
    /// The log ends before the region does.
    TooShort {
        /// Pages that the log has bits for.
        page_count: u64,
        /// Pages that it must have for the region, counted from address 0.
        needed_page_count: u64,
    },
}

impl fmt::Display for ExternalLogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Misaligned { address } => {
                write!(f, "dirty log at {address:#x} is not aligned to 8 bytes")
            }
            Self::TooShort {
                page_count,
                needed_page_count,
            } => write!(
                f,
                "dirty log has bits for {page_count} pages where the region needs {needed_page_count}"
            ),
        }
    }
}

impl Error for ExternalLogError {}
