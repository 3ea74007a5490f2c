// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A mapped range as the calls see it that manage memory: policies, prefault, discard, residency.
#![expect(
    unsafe_code,
    reason = "an address that is mapped is more than an integer"
)]

use std::marker::PhantomData;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;

use crate::{Protection, Sharing};

/// A mapped range with what is behind it.
///
/// # Invariants
///
/// `[start, start + len_bytes)` is mapped for `'a`, does not wrap nor exceed `isize::MAX` bytes, and memory management of it
/// (advice, population, freeing pages) is up to this crate: it is a region's memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent<'a> {
    start: NonNull<u8>,
    len_bytes: usize,
    details: Details<'a>,
}

/// What is behind a mapped range.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Details<'a> {
    /// Size of the pages that the kernel maps it by, in bytes: a huge page's for hugetlb, a device's own.
    pub(crate) page_size: usize,
    /// Whether it surely consists of huge pages of the system's pool.
    pub(crate) is_hugetlb: bool,
    /// Whether others see what is written.
    pub(crate) sharing: Sharing,
    /// What this process may do with it.
    pub(crate) protection: Protection,
    /// The file it shows, and where in the file the extent starts.
    pub(crate) file: Option<(BorrowedFd<'a>, u64)>,
    /// Ties the extent to what keeps it mapped.
    pub(crate) mapped: PhantomData<&'a ()>,
}

impl<'a> Extent<'a> {
    /// Describes `[start, start + len_bytes)`.
    ///
    /// # Safety
    ///
    /// The range must be a region's memory and stay mapped for `'a`, as the details say.
    pub(crate) unsafe fn new(start: NonNull<u8>, len_bytes: usize, details: Details<'a>) -> Self {
        Self {
            start,
            len_bytes,
            details,
        }
    }

    /// Returns the first address.
    pub(crate) fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// Returns the length in bytes, not rounded to pages.
    pub(crate) fn len_bytes(&self) -> usize {
        self.len_bytes
    }

    /// Returns what is behind it.
    pub(crate) fn details(&self) -> Details<'a> {
        self.details
    }

    /// Returns the same with another protection.
    ///
    /// # Safety
    ///
    /// It must be the range's.
    pub(crate) unsafe fn with_protection(self, protection: Protection) -> Self {
        Self {
            details: Details {
                protection,
                ..self.details
            },
            ..self
        }
    }

    /// Returns `[offset, offset + len_bytes)` of it, or nothing if that is not part of it.
    pub(crate) fn part(&self, offset: usize, len_bytes: usize) -> Option<Self> {
        let end = offset.checked_add(len_bytes)?;
        if end > self.len_bytes {
            return None;
        }
        let file = match self.details.file {
            Some((file, start)) => Some((file, start.checked_add(u64::try_from(offset).ok()?)?)),
            None => None,
        };
        Some(Self {
            // SAFETY: `offset` is at most the length, as just checked, and by the invariant that much can be added.
            start: unsafe { self.start.add(offset) },
            len_bytes,
            details: Details {
                file,
                ..self.details
            },
        })
    }
}

// SAFETY: an extent is an address and facts about it; the calls made with it work from any thread.
unsafe impl Send for Extent<'_> {}
// SAFETY: through a shared reference the fields are only read.
unsafe impl Sync for Extent<'_> {}
