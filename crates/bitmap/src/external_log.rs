// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A dirty log in memory that the caller maps and another process reads.
#![expect(unsafe_code, reason = "marks in memory that the caller maps")]

use alloc::boxed::Box;
use core::error::Error;
use core::fmt;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::words;

/// A dirty log in memory that is shared with another process: the one of vhost, which a front end gives to a back end with
/// `SET_LOG_BASE`.
///
/// It has a bit for each page of 4 KiB of guest-physical memory, from address 0 on: page `p` is bit `p % 8` of byte `p / 8`.
///
/// A barrier for all threads of this process does not reach writers and readers of others, so every mark is an atomic
/// read-modify-write, whether the bit is set or not.
pub struct ExternalLog {
    /// # Invariants
    ///
    /// `[words, words + word_count)` is mapped for reading and writing as long as `owner` lives, initialised, aligned to 8, and
    /// covered by no Rust reference other than to atomics.
    words: NonNull<AtomicU64>,
    word_count: usize,
    /// What keeps the memory mapped.
    _owner: Box<dyn Send + Sync>,
}

// SAFETY: the memory is only accessed by atomics, which any thread may do, and the owner is `Send`.
unsafe impl Send for ExternalLog {}
// SAFETY: as above; shared access is by atomics only, and the owner is `Sync`.
unsafe impl Sync for ExternalLog {}

impl ExternalLog {
    /// Bytes that one bit stands for.
    pub const PAGE_SIZE: u64 = 4096;

    /// Makes a log of `len_bytes` bytes of memory at `address`, which `owner` keeps mapped.
    ///
    /// Bytes after the last whole word of 8 are not used.
    ///
    /// # Safety
    ///
    /// Until `owner` is dropped the memory must stay mapped for reading and writing, and whoever else accesses it, in this
    /// process, must do so by atomic operations; what other processes do with it is their affair.
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
            _owner: Box::new(owner),
        })
    }

    /// Returns for how many pages there are bits.
    pub fn page_count(&self) -> u64 {
        self.words().len() as u64 * u64::from(u64::BITS)
    }

    /// Tells whether page `page` is marked.
    pub fn is_marked(&self, page: u64) -> bool {
        let Some((word, mask)) = usize::try_from(page).ok().map(words::position) else {
            return false;
        };
        self.words()
            .get(word)
            // Acquire: pairs with the release in `mark`; who sees a mark sees the data.
            .is_some_and(|word| word.load(Ordering::Acquire) & mask.to_le() != 0)
    }

    /// Marks pages `first` to `last`, both included, as far as there are bits, after the caller stored the data.
    #[inline]
    pub(crate) fn mark(&self, first: u64, last: u64) {
        let words = self.words();
        // Both fit: the log has less bits than there are addresses.
        let end = usize::try_from(last).map_or(usize::MAX, |last| last.saturating_add(1));
        let end = end.min(words.len().saturating_mul(words::BITS));
        let first = usize::try_from(first).unwrap_or(usize::MAX);
        words::for_each_mask(first..end, |word, mask| {
            if let Some(word) = words.get(word) {
                // Release: who takes the bit sees the data. A read-modify-write even where the bit is set: it is what comes
                // before or after the take of another process. In memory the lowest page is the lowest bit of the lowest
                // byte, whatever the order of bytes here.
                word.fetch_or(mask.to_le(), Ordering::Release);
            }
        });
    }

    #[inline]
    fn words(&self) -> &[AtomicU64] {
        // SAFETY: the pointer is not null and, by this type's invariants, valid for reads and writes of that many atomics, which are
        // aligned and initialised: every pattern of bits is a valid `AtomicU64`. The owner lives as long as `self`. The size was that of
        // a mapping, so not more than `isize::MAX`.
        unsafe { core::slice::from_raw_parts(self.words.as_ptr(), self.word_count) }
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
