// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Page sizes: powers of two, kept as a shift, so that no address is ever divided.

use core::error::Error;
use core::fmt;
use core::num::NonZeroUsize;

#[cfg(not(all(feature = "std", unix)))]
mod fixed;
#[cfg(all(feature = "std", unix))]
mod unix;

#[cfg(not(all(feature = "std", unix)))]
use fixed as sys;
#[cfg(all(feature = "std", unix))]
use unix as sys;

/// The page size where the host does not tell its own.
const FALLBACK: PageSize = PageSize {
    shift: 12,
    mask: 0xfff,
};

/// A page size that is not a power of two.
///
/// ```
/// use core::num::NonZeroUsize;
/// use guest_memory_bitmap::AtomicBitmap;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let refused = AtomicBitmap::try_new(1 << 20, NonZeroUsize::try_from(3000)?);
/// assert_eq!(
///     refused.map_err(|error| error.to_string()).err().as_deref(),
///     Some("page size of 3000 bytes is not a power of two"),
/// );
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageSizeError {
    page_size: NonZeroUsize,
}

impl PageSizeError {
    /// Returns the page size that was refused, in bytes.
    pub fn page_size(&self) -> NonZeroUsize {
        self.page_size
    }
}

impl fmt::Display for PageSizeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "page size of {} bytes is not a power of two",
            self.page_size
        )
    }
}

impl Error for PageSizeError {}

/// A power of two of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PageSize {
    /// Always less than `usize::BITS`, so no shift by it overflows.
    shift: u32,
    /// The bits of an offset that are within the page: the page size less one.
    mask: usize,
}

impl PageSize {
    /// The host's page size, or 4 KiB where it cannot be asked for.
    pub(crate) fn of_host() -> Self {
        sys::host_page_size()
            .and_then(NonZeroUsize::new)
            .and_then(|bytes| Self::try_from(bytes).ok())
            .unwrap_or(FALLBACK)
    }

    #[inline]
    pub(crate) fn bytes(self) -> NonZeroUsize {
        // The shift is below the width of the type, so the fallback is never taken.
        NonZeroUsize::new(1 << self.shift).unwrap_or(NonZeroUsize::MIN)
    }

    /// The page that holds the byte at `offset`.
    #[inline]
    pub(crate) fn page_of(self, offset: usize) -> usize {
        offset >> self.shift
    }

    /// Says whether `[start, start + len)` is not empty and within one page.
    #[inline]
    pub(crate) fn is_within_one(self, start: usize, len: usize) -> bool {
        let offset_in_page = start & self.mask;
        // A length of 0 wraps to one that no page holds.
        len.wrapping_sub(1) <= self.mask - offset_in_page
    }

    /// The offset of the first byte of `page`, which holds a byte that has an offset.
    #[inline]
    pub(crate) fn start_of(self, page: usize) -> usize {
        page << self.shift
    }

    /// How many pages hold `len_bytes` bytes, the last one perhaps in part.
    #[inline]
    pub(crate) fn pages_for(self, len_bytes: usize) -> usize {
        match len_bytes.checked_sub(1) {
            // With one-byte pages the last page of `usize::MAX` bytes is `usize::MAX - 1`: no overflow.
            Some(last_byte) => self.page_of(last_byte) + 1,
            None => 0,
        }
    }
}

/// 4 KiB.
impl Default for PageSize {
    fn default() -> Self {
        FALLBACK
    }
}

impl TryFrom<NonZeroUsize> for PageSize {
    type Error = PageSizeError;

    fn try_from(page_size: NonZeroUsize) -> Result<Self, PageSizeError> {
        if page_size.is_power_of_two() {
            Ok(Self {
                shift: page_size.trailing_zeros(),
                mask: page_size.get() - 1,
            })
        } else {
            Err(PageSizeError { page_size })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page_size(bytes: usize) -> PageSize {
        PageSize::try_from(NonZeroUsize::new(bytes).unwrap()).unwrap()
    }

    #[test]
    fn every_power_of_two_is_a_page_size() {
        for shift in 0..usize::BITS {
            let bytes = NonZeroUsize::new(1 << shift).unwrap();
            assert_eq!(PageSize::try_from(bytes).unwrap().bytes(), bytes);
        }
    }

    #[test]
    fn other_sizes_are_refused_and_named() {
        for bytes in [3, 5, 6, 4095, 4097, 12288, usize::MAX] {
            let bytes = NonZeroUsize::new(bytes).unwrap();
            let error = PageSize::try_from(bytes).unwrap_err();
            assert_eq!(error.page_size(), bytes);
        }
    }

    #[test]
    fn pages_are_counted_upwards() {
        let top = 1 << (usize::BITS - 1);
        for (bytes, len_bytes, pages) in [
            (4096, 0, 0),
            (4096, 1, 1),
            (4096, 4096, 1),
            (4096, 4097, 2),
            (1, usize::MAX, usize::MAX),
            (2, usize::MAX, top),
            (top, top, 1),
            (top, usize::MAX, 2),
        ] {
            assert_eq!(page_size(bytes).pages_for(len_bytes), pages);
        }
    }

    #[test]
    fn the_host_has_a_page_size_of_at_least_the_fallback() {
        // No supported host has smaller pages than 4 KiB.
        assert!(PageSize::of_host().bytes() >= FALLBACK.bytes());
    }
}
