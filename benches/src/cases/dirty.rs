// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Tracked writes, marks, harvests.

use guest_memory::bitmap::{AtomicBitmap as OurBitmap, DirtyPages};
use vm_memory::bitmap::AtomicBitmap as TheirBitmap;

use super::MEMORY_LEN;
use crate::buffer::Buffer;
use crate::copies::PLACE_COUNT;
use crate::limit::{Window, Words};
use crate::measure::{Limit, Runner};
use crate::pair::Pair;
use crate::{compare, harvest, ours, pair, places, theirs};

/// Bytes per bit.
const PAGE: u64 = 4096;

/// Bytes per word of 64 bits.
const WORD_COVERS: usize = 64 * 4096;

/// Writes to a tracked memory.
pub(super) fn writes(runner: &mut Runner) {
    let memory = Pair {
        ours: ours::access::memory::<OurBitmap>(&[(0, MEMORY_LEN)]),
        theirs: theirs::access::memory::<TheirBitmap>(&[(0, MEMORY_LEN)]),
    };
    let untracked = ours::access::memory::<()>(&[(0, MEMORY_LEN)]);
    let window = Window::new(MEMORY_LEN);
    let places = places::random(PLACE_COUNT, PAGE, 16);
    compare!(
        runner,
        "tracked write_obj u32, one dirty page",
        [access::write_obj::<u32, _>](memory, 1, &places),
        Some(Limit {
            what: "ours, untracked",
            run: &mut |count| ours::access::write_obj(&untracked, 1u32, &places, count),
        }),
    );
    compare!(
        runner,
        "tracked write_obj u64, one dirty page",
        [access::write_obj::<u64, _>](memory, 1, &places),
        Some(Limit {
            what: "ours, untracked",
            run: &mut |count| ours::access::write_obj(&untracked, 1u64, &places, count),
        }),
    );
    let pages = places::shuffled(MEMORY_LEN as u64, PAGE);
    compare!(
        runner,
        "tracked write_obj u64, random clean pages",
        [dirty::write_to_clean_pages](memory, &pages),
        Some(Limit {
            what: "volatile write, untracked",
            run: &mut |count| window.write(1u64, &pages, count),
        }),
    );
    compare!(
        runner,
        "tracked write_obj u64, random dirty pages",
        [access::write_obj::<u64, _>](memory, 1, &pages),
        Some(Limit {
            what: "volatile write, untracked",
            run: &mut |count| window.write(1u64, &pages, count),
        }),
    );
    let buffer = Buffer::new(4096);
    let place = places::same(1, 1 << 20);
    compare!(
        runner,
        "tracked write_slice 4 KiB",
        [access::write_slice](memory, &buffer, &place),
        Some(Limit {
            what: "memcpy, untracked",
            run: &mut |count| window.copy_in(&buffer, 1, &place, count),
        }),
    );
    let words = Words::new(129);
    compare!(
        runner,
        "tracked write_obj u64, two threads, one page",
        [dirty::write_by_two_threads](memory),
        Some(Limit {
            what: "one store, two threads",
            run: &mut |count| words.store_by_two_threads(count),
        }),
    );
}

/// Ranges marked in a log of 2 GiB.
pub(super) fn marks(runner: &mut Runner) {
    const LOG_LEN: usize = 2 << 30;
    let bitmap = pair!([dirty::bitmap](LOG_LEN));
    let words = Words::new(LOG_LEN / WORD_COVERS);
    let places = places::random(PLACE_COUNT, LOG_LEN as u64, PAGE);
    compare!(
        runner,
        "mark 4 KiB",
        [dirty::mark](bitmap, 4 << 10, &places),
        Some(Limit {
            what: "one atomic or",
            run: &mut |count| words.set_bit(&places, count),
        }),
    );
    for (name, len_bytes) in [("2 MiB", 2usize << 20), ("1 GiB", 1 << 30)] {
        let places = places::random(2, LOG_LEN as u64, len_bytes as u64);
        compare!(
            runner,
            format!("mark {name}"),
            [dirty::mark](bitmap, len_bytes, &places),
            Some(Limit {
                what: "one plain store a word",
                run: &mut |count| words.store(len_bytes / WORD_COVERS, count),
            }),
        );
    }
}

/// A log of 64 GiB taken whole.
pub(super) fn harvests(runner: &mut Runner) {
    const LOG_LEN: usize = 64 << 30;
    let bitmap = pair!([dirty::bitmap](LOG_LEN));
    let words = Words::new(LOG_LEN / WORD_COVERS);
    for (name, dirty_count) in [("clean", 0), ("100 dirty pages", 100)] {
        let dirty = places::random(dirty_count, LOG_LEN as u64, PAGE);
        compare!(
            runner,
            format!("get_and_reset, 64 GiB log, {name}"),
            [dirty::harvest](bitmap, &dirty),
            Some(Limit {
                what: "plain read of the log",
                run: &mut |count| words.read(count),
            }),
        );
    }
}

/// Logs taken whole and listed as ranges, into a set that is used again.
pub(super) fn lists(runner: &mut Runner) {
    for (size, log_len, dirty_count) in [
        ("64 GiB", 64usize << 30, 0),
        ("64 GiB", 64 << 30, 100),
        ("4 TiB", 4 << 40, 100),
    ] {
        let case = format!("harvest and list, {size} log, {dirty_count} dirty pages");
        if !runner.wants(&case) {
            continue;
        }
        let bitmap = pair!([dirty::bitmap](log_len));
        let words = Words::new(log_len / WORD_COVERS);
        let dirty = places::random(dirty_count, log_len as u64, PAGE);
        let mut pages = DirtyPages::default();
        runner.compare(
            &case,
            &mut |count| harvest::list(&bitmap.ours, &mut pages, &dirty, count),
            &mut |count| harvest::list_by_hand(&bitmap.theirs, &dirty, count),
            Some(Limit {
                what: "plain read of the log",
                run: &mut |count| words.read(count),
            }),
        );
    }
}
