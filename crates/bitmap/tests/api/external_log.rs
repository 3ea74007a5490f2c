// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Logs in memory of the caller's: which bits, too short ones, and exchange under writers.
#![expect(unsafe_code, reason = "makes logs over the tests' own memory")]

use std::collections::BTreeSet;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;

use guest_memory_bitmap::{Bitmap, ExternalLog, ExternalLogError, NewBitmap, SwappableLog};
use proptest::prelude::*;

const PAGE: u64 = ExternalLog::PAGE_SIZE;

/// Memory of a log, which tells when it is given back.
struct Memory {
    words: Box<[AtomicU64]>,
    is_dropped: Arc<AtomicBool>,
}

impl Memory {
    fn new(word_count: usize) -> Arc<Self> {
        Arc::new(Self {
            words: (0..word_count).map(|_| AtomicU64::new(0)).collect(),
            is_dropped: Arc::default(),
        })
    }

    fn log(self: &Arc<Self>) -> Arc<ExternalLog> {
        let address = NonNull::from(&*self.words).cast();
        // SAFETY: atomics, as many bytes of them, which the log keeps alive.
        let log = unsafe { ExternalLog::new(address, self.words.len() * 8, self.clone()) };
        Arc::new(log.unwrap())
    }

    /// Takes all bits as another process does: byte by byte would do as well.
    fn take(&self) -> BTreeSet<u64> {
        let mut pages = BTreeSet::new();
        for (index, word) in (0..).zip(&self.words) {
            let bytes = word.swap(0, Ordering::AcqRel).to_ne_bytes();
            for (at, byte) in (0..).zip(bytes) {
                let bits = (0..8).filter(|bit| byte >> bit & 1 == 1);
                pages.extend(bits.map(|bit| (index * 8 + at) * 8 + bit));
            }
        }
        pages
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.is_dropped.store(true, Ordering::Relaxed);
    }
}

proptest! {
    #[test]
    fn marks_are_those_of_the_pages_of_the_region_and_no_others(
        start in 0_u64..300 * PAGE,
        len in 1_usize..300 * 4096,
        writes in prop::collection::vec((0_usize..310 * 4096, 0_usize..20 * 4096, any::<bool>()), 0..12),
    ) {
        let memory = Memory::new(10);
        let bitmap = SwappableLog::with_len(len);
        bitmap.swap(Some((memory.log(), start))).unwrap();
        let mut expected = BTreeSet::new();
        for (offset, count, through_slice) in writes {
            if through_slice {
                bitmap.slice_at(offset / 2).mark_dirty(offset - offset / 2, count);
            } else {
                bitmap.mark_dirty(offset, count);
            }
            let end = (offset + count).min(len);
            if offset < end {
                expected.extend((start + offset as u64) / PAGE..(start + end as u64 - 1) / PAGE + 1);
            }
        }
        for page in 0..10 * 64 + 1 {
            let log = bitmap.log().unwrap();
            prop_assert_eq!(log.is_marked(page), expected.contains(&page));
        }
        for offset in (0..len + 4096).step_by(1000) {
            let is_dirty = offset < len && expected.contains(&((start + offset as u64) / PAGE));
            prop_assert_eq!(bitmap.dirty_at(offset), is_dirty);
        }
        prop_assert_eq!(memory.take(), expected);
    }
}

#[test]
fn a_log_too_short_for_the_region_is_an_error_and_the_old_one_stays() {
    let (long, short) = (Memory::new(2), Memory::new(1));
    let bitmap = SwappableLog::with_len(64 * 4096);
    assert!(bitmap.swap(Some((short.log(), 0))).unwrap().is_none());
    for start in [1, PAGE] {
        assert_eq!(
            bitmap.swap(Some((short.log(), start))).unwrap_err(),
            ExternalLogError::TooShort {
                page_count: 64,
                needed_page_count: 65
            }
        );
    }
    bitmap.mark_dirty(0, 1);
    assert_eq!(short.take(), BTreeSet::from([0]));
    assert!(bitmap.swap(Some((long.log(), PAGE))).is_ok());
    // A region that would end past the top of the addresses.
    assert!(bitmap.swap(Some((long.log(), u64::MAX))).is_err());
    assert!(
        bitmap
            .swap(Some((long.log(), u64::MAX - 64 * PAGE)))
            .is_err()
    );
    assert_eq!(bitmap.tracked_bytes(), Some(64 * 4096));
}

#[test]
fn a_misaligned_log_is_refused() {
    let memory = Memory::new(3);
    let address = NonNull::from(&*memory.words).cast::<u8>();
    let misaligned = address.map_addr(|address| address | 4);
    // SAFETY: refused, and within the memory.
    let refused = unsafe { ExternalLog::new(misaligned, 16, ()) };
    assert!(matches!(refused, Err(ExternalLogError::Misaligned { .. })));
}

#[test]
fn a_log_is_used_to_its_last_byte_and_not_past_it() {
    let memory = Memory::new(3);
    let address = NonNull::from(&*memory.words).cast::<u8>();
    // SAFETY: atomics, which the log keeps alive; less than all of them.
    let log = unsafe { ExternalLog::new(address, 19, memory.clone()) }.unwrap();
    assert_eq!(log.page_count(), 19 * 8);
    let bitmap = SwappableLog::with_len(19 * 8 * 4096);
    bitmap.swap(Some((Arc::new(log), 0))).unwrap();
    for (pages, first, end) in [
        (126..131, 126, 131),
        (140..152, 140, 152),
        (151..400, 151, 152),
        (0..152, 0, 152),
    ] {
        bitmap.mark_dirty(pages.start * 4096, pages.len() * 4096);
        let log = bitmap.log().unwrap();
        for page in (0..200).chain([u64::MAX]) {
            assert_eq!(log.is_marked(page), (first..end).contains(&page), "{page}");
        }
        assert_eq!(memory.take(), (first..end).collect());
    }
    let longer = SwappableLog::with_len(19 * 8 * 4096 + 1);
    assert!(longer.swap(bitmap.log().map(|log| (log, 0))).is_err());
}

#[test]
fn without_a_log_nothing_is_marked_and_the_old_log_is_given_back() {
    let memory = Memory::new(1);
    let is_dropped = memory.is_dropped.clone();
    let bitmap = SwappableLog::with_len(4096);
    bitmap.mark_dirty(0, 1);
    bitmap.swap(Some((memory.log(), 0))).unwrap();
    drop(memory);
    let old = bitmap.swap(None).unwrap().unwrap();
    assert!(!old.is_marked(0) && bitmap.log().is_none());
    bitmap.mark_dirty(0, 1);
    assert!(!bitmap.dirty_at(0) && !old.is_marked(0));
    assert!(!is_dropped.load(Ordering::Relaxed));
    drop(old);
    assert!(is_dropped.load(Ordering::Relaxed));
    // No region of bytes has room in a bitmap for none.
    assert_eq!(SwappableLog::default().tracked_bytes(), Some(0));
}

#[test]
fn no_mark_is_lost_while_the_log_is_exchanged() {
    const PAGES: usize = 256;
    const ROUNDS: u64 = 300;
    let bitmap = SwappableLog::with_len(PAGES * 4096);
    let values: Vec<AtomicU64> = (0..PAGES).map(|_| AtomicU64::new(0)).collect();
    let running = AtomicUsize::new(2);
    let write = |first: usize| {
        for value in 1..=ROUNDS {
            for page in (first..PAGES).step_by(2) {
                values[page].store(value, Ordering::Relaxed);
                bitmap.mark_dirty(page * 4096, 8);
            }
        }
        running.fetch_sub(1, Ordering::Release);
    };
    let mut memory = Memory::new(PAGES / 64);
    bitmap.swap(Some((memory.log(), 0))).unwrap();
    let copied = thread::scope(|scope| {
        scope.spawn(|| write(0));
        scope.spawn(|| write(1));
        let mut copied = vec![0; PAGES];
        let mut swaps = 0;
        loop {
            let is_last = running.load(Ordering::Acquire) == 0;
            // What is left in a log after it was exchanged is all there will be: its memory is gone after this turn.
            let next = Memory::new(PAGES / 64);
            let is_dropped = memory.is_dropped.clone();
            drop(bitmap.swap(Some((next.log(), 0))).unwrap());
            for page in memory.take() {
                let page = usize::try_from(page).unwrap();
                copied[page] = values[page].load(Ordering::Relaxed);
            }
            memory = next;
            assert!(is_dropped.load(Ordering::Relaxed));
            swaps += 1;
            if is_last {
                println!("exchanged {swaps} times");
                break copied;
            }
        }
    });
    assert_eq!(copied, vec![ROUNDS; PAGES]);
}
