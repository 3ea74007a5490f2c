// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A bitmap that nobody marks uses no memory, however large it is.
#![cfg(all(target_os = "linux", target_pointer_width = "64"))]

use std::fs;
use std::num::NonZeroUsize;

use guest_memory_bitmap::AtomicBitmap;

/// 4 TiB in pages of 4 KiB: a log of 128 MiB.
const TRACKED_BYTES: usize = 4 << 40;
const LOG_BYTES: usize = TRACKED_BYTES / 4096 / 8;

/// What the rest of this process may allocate meanwhile (the other tests of this binary do), and the
/// huge pages that hold the few words that are marked here.
const SLACK_BYTES: usize = LOG_BYTES / 4;

/// Bytes of this process that are resident, by /proc/self/status.
fn resident_bytes() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let kibibytes = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.trim().strip_suffix(" kB"))
        .unwrap();
    kibibytes.parse::<usize>().unwrap() * 1024
}

#[test]
fn a_large_bitmap_touches_no_memory_until_it_is_marked() {
    let before = resident_bytes();
    let grown_by = || resident_bytes().saturating_sub(before);

    let mut bitmap = AtomicBitmap::new(TRACKED_BYTES, NonZeroUsize::new(4096).unwrap());
    bitmap.set_bit(0);
    bitmap.set_bit(bitmap.len() - 1);
    assert!(grown_by() < SLACK_BYTES, "new: {} bytes", grown_by());

    bitmap.enlarge(4096);
    assert_eq!(bitmap.clone().len(), bitmap.len());
    assert!(grown_by() < SLACK_BYTES, "enlarge: {} bytes", grown_by());

    let harvested = bitmap.harvest();
    assert!(
        harvested
            .ranges()
            .eq([0..4096, TRACKED_BYTES - 4096..TRACKED_BYTES])
    );
    assert_eq!(harvested.clone(), harvested);
    bitmap.set_bit(0);
    assert_eq!(bitmap.get_and_reset().first(), Some(&1));
    assert!(grown_by() < SLACK_BYTES, "harvest: {} bytes", grown_by());

    // The measure can tell: one byte in every page of as much memory is seen.
    let mut touched = vec![0_u8; LOG_BYTES];
    touched.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
    std::hint::black_box(&touched);
    assert!(grown_by() > LOG_BYTES / 2, "touched: {} bytes", grown_by());
}
