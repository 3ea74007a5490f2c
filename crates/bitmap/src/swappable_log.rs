// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The bitmap of a region that marks in a log of somebody else's, which can be exchanged while writers run.

use alloc::sync::Arc;
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use arc_swap::ArcSwapOption;

use crate::bitmap::{Bitmap, NewBitmap, WithBitmapSlice};
use crate::external_log::{ExternalLog, ExternalLogError};
use crate::ordering::MarkOrdering;
use crate::slice::RefSlice;

/// The bitmap of a region that marks in an [`ExternalLog`], or nowhere while there is none.
///
/// The log is exchanged without a lock for writers: [`swap`](Self::swap) returns when none of them uses the old one.
///
/// # Cost
///
/// Without a log a mark is one load; with one it is taking a guard on it and an atomic operation per 64 pages.
///
/// # Examples
///
/// ```
/// use std::ptr::NonNull;
/// use std::sync::Arc;
/// use std::sync::atomic::AtomicU64;
/// use guest_memory_bitmap::{Bitmap, ExternalLog, NewBitmap, SwappableLog};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // 64 KiB of guest memory at 0x1_0000, and a log for the first 256 KiB. It would be shared memory.
/// let region = SwappableLog::with_len(0x1_0000);
/// let words: Arc<[AtomicU64]> = Arc::from([AtomicU64::new(0)]);
/// let address = NonNull::from(&*words).cast();
/// // SAFETY: initialised atomics, eight bytes of them, which the log keeps alive itself and nobody uses otherwise.
/// let log = Arc::new(unsafe { ExternalLog::new(address, 8, words.clone()) }?);
///
/// region.mark_dirty(0, 1); // not logged
/// region.swap(Some((log.clone(), 0x1_0000)))?;
/// region.mark_dirty(0x1000, 1);
/// assert!(log.is_marked(0x11) && !log.is_marked(0x10));
/// # Ok(())
/// # }
/// ```
pub struct SwappableLog {
    /// Bytes of the region.
    len: usize,
    ordering: MarkOrdering,
    /// Whether there is a window, for a quick look.
    is_attached: AtomicBool,
    window: ArcSwapOption<Window>,
    /// Held while the log is exchanged, so that the two above go together. Writers do not take it.
    swapping: Mutex<()>,
}

/// A log and where in it the region is.
struct Window {
    log: Arc<ExternalLog>,
    /// Guest-physical address of the region's first byte.
    region_start: u64,
}

impl SwappableLog {
    /// Marks in another log from now on, or in none; returns the log from before.
    ///
    /// A log comes with the guest-physical address of the region's first byte, since its first bit stands for address 0.
    ///
    /// When this returns, no writer marks in the old log any more: what is in it is all there will be. A write that is in neither
    /// log, because it looked before there was one, is visible to whoever reads memory from now on.
    ///
    /// # Errors
    ///
    /// [`ExternalLogError::TooShort`] if the log has no bits for all of the region; nothing is exchanged then.
    ///
    /// # Panics
    ///
    /// Panics if the system refuses the barrier it granted before ([`MarkOrdering::Asymmetric`]).
    pub fn swap(
        &self,
        log: Option<(Arc<ExternalLog>, u64)>,
    ) -> Result<Option<Arc<ExternalLog>>, ExternalLogError> {
        let window = match log {
            Some((log, region_start)) => Some(Arc::new(self.window_on(log, region_start)?)),
            None => None,
        };
        let is_attached = window.is_some();
        let swapping = self.swapping.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.window.swap(window);
        // Relaxed: the fence makes it known. Pairs with the load in `mark_dirty`.
        self.is_attached.store(is_attached, Ordering::Relaxed);
        self.ordering.after_take();
        drop(swapping);
        Ok(old.map(unused))
    }

    /// Returns the log that is marked in.
    pub fn log(&self) -> Option<Arc<ExternalLog>> {
        self.window.load().as_ref().map(|window| window.log.clone())
    }

    fn window_on(
        &self,
        log: Arc<ExternalLog>,
        region_start: u64,
    ) -> Result<Window, ExternalLogError> {
        let page_count = log.page_count();
        let needed_page_count = match self.len.checked_sub(1) {
            Some(to_last) => match region_start.checked_add(to_last as u64) {
                Some(last) => page_of(last) + 1,
                None => u64::MAX,
            },
            None => 0,
        };
        if needed_page_count > page_count {
            return Err(ExternalLogError::TooShort {
                page_count,
                needed_page_count,
            });
        }
        Ok(Window { log, region_start })
    }

    /// Marks within the region: `len` is not 0 and the range is in it.
    fn mark_in_window(&self, offset: usize, len: usize) {
        if let Some(window) = &*self.window.load() {
            // No sum overflows: the region's last byte has an address.
            let first = window.region_start + offset as u64;
            window
                .log
                .mark(page_of(first), page_of(first + (len - 1) as u64));
        }
    }
}

/// Waits until no writer uses a window that is out of reach for new ones; returns its log.
fn unused(mut window: Arc<Window>) -> Arc<ExternalLog> {
    loop {
        match Arc::try_unwrap(window) {
            Ok(window) => return window.log,
            Err(in_use) => window = in_use,
        }
        // A writer holds it for the time of one mark, unless it is preempted.
        thread::yield_now();
    }
}

fn page_of(address: u64) -> u64 {
    address / ExternalLog::PAGE_SIZE
}

impl<'a> WithBitmapSlice<'a> for SwappableLog {
    type S = RefSlice<'a, Self>;
}

impl Bitmap for SwappableLog {
    #[inline]
    fn mark_dirty(&self, offset: usize, len: usize) {
        self.ordering.before_mark();
        // Relaxed: `swap` makes it known to all by its fence, before it returns.
        if self.is_attached.load(Ordering::Relaxed) {
            let len = len.min(self.len.saturating_sub(offset));
            if len > 0 {
                self.mark_in_window(offset, len);
            }
        }
    }

    fn dirty_at(&self, offset: usize) -> bool {
        let is_marked = |window: &Arc<Window>| {
            let address = window.region_start + offset as u64;
            window.log.is_marked(page_of(address))
        };
        offset < self.len && self.window.load().as_ref().is_some_and(is_marked)
    }

    #[inline]
    fn slice_at(&self, offset: usize) -> RefSlice<'_, Self> {
        RefSlice::new(self, offset)
    }

    #[inline]
    fn tracked_bytes(&self) -> Option<usize> {
        Some(self.len)
    }
}

/// Makes a bitmap that marks nowhere yet.
impl NewBitmap for SwappableLog {
    fn with_len(len: usize) -> Self {
        Self {
            len,
            ordering: MarkOrdering::preferred(),
            is_attached: AtomicBool::new(false),
            window: ArcSwapOption::empty(),
            swapping: Mutex::new(()),
        }
    }
}

/// A bitmap for zero bytes, which records nothing.
impl Default for SwappableLog {
    fn default() -> Self {
        Self::with_len(0)
    }
}

impl fmt::Debug for SwappableLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SwappableLog")
            .field("len", &self.len)
            .field("log", &self.log())
            .finish_non_exhaustive()
    }
}
