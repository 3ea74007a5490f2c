// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The crate's bitmaps in the suite that is open to everyone's.

use std::num::NonZeroUsize;
use std::sync::Arc;

use guest_memory_bitmap::{ArcSlice, AtomicBitmap, MarkOrdering, NewBitmap};
use guest_memory_conformance::{Config, bitmap, dirty_log};

#[test]
fn atomic_bitmap_with_the_default_page_size_behaves() {
    bitmap::check(AtomicBitmap::with_len);
}

#[test]
fn atomic_bitmap_behaves_with_pages_of_any_size() {
    for page_size in [1, 2, 64, 1 << 16] {
        let page_size = NonZeroUsize::new(page_size).unwrap();
        bitmap::check(|len| AtomicBitmap::new(len, page_size));
    }
}

#[test]
fn no_mark_of_several_threads_is_lost() {
    bitmap::check_concurrent(Config::default(), AtomicBitmap::with_len);
    let fine = NonZeroUsize::new(64).unwrap();
    bitmap::check_concurrent(Config::default(), |len| AtomicBitmap::new(len, fine));
}

#[test]
fn atomic_bitmap_is_harvested_and_switched_with_either_ordering() {
    dirty_log::check(AtomicBitmap::with_len);
    dirty_log::check(|len| {
        let bitmap = AtomicBitmap::with_len(len);
        bitmap.with_ordering(MarkOrdering::Symmetric).unwrap()
    });
    dirty_log::check(Option::<AtomicBitmap>::with_len);
}

#[test]
fn enlarged_atomic_bitmap_behaves() {
    bitmap::check(|len| {
        let mut bitmap = AtomicBitmap::with_len(len / 3);
        bitmap.enlarge(len - len / 3);
        bitmap
    });
}

#[test]
fn arc_slice_of_a_larger_bitmap_behaves() {
    bitmap::check(|len| {
        let whole = AtomicBitmap::with_len(len + 0x10000);
        ArcSlice::new(Arc::new(whole), 0x10000)
    });
}

#[test]
fn some_bitmap_behaves() {
    bitmap::check(Option::<AtomicBitmap>::with_len);
}

#[test]
fn bitmaps_that_record_nothing_behave() {
    let untracked = Config::default().untracked();
    bitmap::check_with(untracked, <() as NewBitmap>::with_len);
    bitmap::check_with(untracked, |_| None::<AtomicBitmap>);
}

#[test]
fn swappable_log_behaves() {
    use std::ptr::NonNull;
    use std::sync::atomic::AtomicU64;

    use guest_memory_bitmap::{ExternalLog, SwappableLog};

    bitmap::check(|len| {
        let words: Arc<[AtomicU64]> = (0..len / (64 * 4096) + 2)
            .map(|_| AtomicU64::new(0))
            .collect();
        let address = NonNull::from(&*words).cast();
        #[expect(unsafe_code, reason = "makes a log over memory of its own")]
        // SAFETY: atomics, as many bytes of them, which the log keeps alive.
        let log = unsafe { ExternalLog::new(address, words.len() * 8, words.clone()) }.unwrap();
        let bitmap = SwappableLog::with_len(len);
        bitmap.swap(Some((Arc::new(log), 0x1000))).unwrap();
        bitmap
    });
}
