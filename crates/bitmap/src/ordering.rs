// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! How a mark is ordered against a harvest: the two fences of the protocol in [`crate::marks`].

use core::error::Error;
use core::fmt;

use crate::barrier;
use crate::sync::{Ordering, compiler_fence, fence};

/// How a bitmap orders the data that a writer stores against the marks that a harvest takes.
///
/// Both are right; they differ in who pays. A bitmap is made with one and keeps it.
/// [`preferred`](Self::preferred) is what bitmaps get that are not asked.
///
/// ```
/// use core::num::NonZeroUsize;
/// use guest_memory_bitmap::{AtomicBitmap, MarkOrdering};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let page_size = NonZeroUsize::try_from(4096)?;
/// assert_eq!(AtomicBitmap::new(1 << 20, page_size).mark_ordering(), MarkOrdering::preferred());
///
/// let portable = AtomicBitmap::new(1 << 20, page_size).with_ordering(MarkOrdering::Symmetric)?;
/// assert_eq!(portable.mark_ordering(), MarkOrdering::Symmetric);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MarkOrdering {
    /// The harvester pays: it makes all threads of the process pass a barrier, and a mark is two loads where the page is
    /// dirty already.
    ///
    /// Needs `membarrier(2)` of Linux 4.14 or later and the crate's feature `std`. A filter of system calls has to allow
    /// it for as long as such a bitmap is harvested.
    Asymmetric,
    /// Both pay: each mark and each harvest contains a full fence.
    ///
    /// Works everywhere.
    Symmetric,
}

impl MarkOrdering {
    /// Returns [`Asymmetric`](Self::Asymmetric) where the system grants it, else [`Symmetric`](Self::Symmetric).
    ///
    /// The system is asked once; the answer is the same for the life of the process.
    pub fn preferred() -> Self {
        if barrier::is_available() {
            Self::Asymmetric
        } else {
            Self::Symmetric
        }
    }

    /// Returns the ordering if it can be had.
    pub(crate) fn granted(self) -> Result<Self, MarkOrderingError> {
        match self {
            Self::Asymmetric if !barrier::is_available() => Err(MarkOrderingError(())),
            granted => Ok(granted),
        }
    }

    /// The writer's fence, between storing data and looking at the marks.
    #[inline]
    pub(crate) fn before_mark(self) {
        match self {
            // The processor may still look before it stores; `after_take` forbids that where it matters.
            Self::Asymmetric => compiler_fence(Ordering::SeqCst),
            // SeqCst: a store before and a load after; only a full fence orders these. Pairs with `after_take`.
            Self::Symmetric => fence(Ordering::SeqCst),
        }
    }

    /// The harvester's fence, between taking marks and reading data. Also the one of who switches marking on and then
    /// reads data.
    #[inline]
    pub(crate) fn after_take(self) {
        match self {
            Self::Asymmetric => barrier::on_all_threads(),
            // SeqCst: as in `before_mark`, its partner.
            Self::Symmetric => fence(Ordering::SeqCst),
        }
    }
}

/// An ordering that this system does not grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MarkOrderingError(());

impl fmt::Display for MarkOrderingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("asymmetric ordering of marks needs membarrier(2), which is not available")
    }
}

impl Error for MarkOrderingError {}
