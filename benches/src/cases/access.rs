// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Objects, atomics and buffers in a memory of one region, and buffers across two.

use super::MEMORY_LEN;
use crate::buffer::Buffer;
use crate::copies::{COPIES, PLACE_COUNT};
use crate::descriptor::Descriptor;
use crate::limit::Window;
use crate::measure::{Limit, Runner};
use crate::{compare, pair, places};

const VOLATILE_READ: &str = "volatile read";
const VOLATILE_WRITE: &str = "volatile write";

/// `read_obj` and `write_obj` within one page.
pub(super) fn objects(runner: &mut Runner) {
    let memory = pair!([access::memory::<()>](&[(0, MEMORY_LEN)]));
    let window = Window::new(MEMORY_LEN);
    let places = places::random(PLACE_COUNT, 4096, 16);

    macro_rules! object {
        ($type:ty, $value:expr, $reads:expr, $writes:expr) => {
            let name = stringify!($type);
            compare!(
                runner,
                format!("read_obj {name}"),
                [access::read_obj::<$type, ()>](memory, &places),
                Some(Limit {
                    what: $reads,
                    run: &mut |count| window.read::<$type>(&places, count),
                }),
            );
            compare!(
                runner,
                format!("write_obj {name}"),
                [access::write_obj::<$type, ()>](memory, $value, &places),
                Some(Limit {
                    what: $writes,
                    run: &mut |count| window.write::<$type>($value, &places, count),
                }),
            );
        };
    }
    object!(u8, 1, VOLATILE_READ, VOLATILE_WRITE);
    object!(u16, 1, VOLATILE_READ, VOLATILE_WRITE);
    object!(u32, 1, VOLATILE_READ, VOLATILE_WRITE);
    object!(u64, 1, VOLATILE_READ, VOLATILE_WRITE);

    let descriptor = Descriptor::default();
    compare!(
        runner,
        "read_obj descriptor (16 bytes)",
        [access::read_obj::<Descriptor, ()>](memory, &places),
        Some(Limit {
            what: "two volatile reads",
            run: &mut |count| window.read::<[u64; 2]>(&places, count),
        }),
    );
    compare!(
        runner,
        "write_obj descriptor (16 bytes)",
        [access::write_obj::<Descriptor, ()>](memory, descriptor, &places),
        Some(Limit {
            what: "two volatile writes",
            run: &mut |count| window.write([0u64; 2], &places, count),
        }),
    );
}

/// `load` and `store` within one page.
pub(super) fn atomics(runner: &mut Runner) {
    let memory = pair!([access::memory::<()>](&[(0, MEMORY_LEN)]));
    let window = Window::new(MEMORY_LEN);
    let places = places::random(PLACE_COUNT, 4096, 16);

    macro_rules! atomic {
        ($type:ty) => {
            let name = stringify!($type);
            compare!(
                runner,
                format!("load {name}"),
                [access::load::<$type, ()>](memory, &places),
                Some(Limit {
                    what: VOLATILE_READ,
                    run: &mut |count| window.read::<$type>(&places, count),
                }),
            );
            compare!(
                runner,
                format!("store {name}"),
                [access::store::<$type, ()>](memory, 1, &places),
                Some(Limit {
                    what: VOLATILE_WRITE,
                    run: &mut |count| window.write::<$type>(1, &places, count),
                }),
            );
        };
    }
    atomic!(u8);
    atomic!(u16);
    atomic!(u32);
    atomic!(u64);
}

/// `read_slice` and `write_slice` in the first megabytes.
pub(super) fn buffers(runner: &mut Runner) {
    let memory = pair!([access::memory::<()>](&[(0, MEMORY_LEN)]));
    let window = Window::new(MEMORY_LEN);
    for copies in COPIES {
        let (name, len_bytes) = (copies.name, copies.len_bytes);
        let places = copies.places();
        let mut ours = Buffer::new(len_bytes);
        let mut theirs = Buffer::new(len_bytes);
        let mut by_hand = Buffer::new(len_bytes);
        runner.compare(
            &format!("read_slice {name}"),
            &mut |count| crate::ours::access::read_slice(&memory.ours, &mut ours, &places, count),
            &mut |count| {
                crate::theirs::access::read_slice(&memory.theirs, &mut theirs, &places, count)
            },
            Some(Limit {
                what: "memcpy",
                run: &mut |count| window.copy_out(&mut by_hand, 1, &places, count),
            }),
        );
        let buffer = Buffer::new(len_bytes);
        compare!(
            runner,
            format!("write_slice {name}"),
            [access::write_slice](memory, &buffer, &places),
            Some(Limit {
                what: "memcpy",
                run: &mut |count| window.copy_in(&buffer, 1, &places, count),
            }),
        );
    }
}

/// 512 bytes, half in one region and half in the next.
pub(super) fn crossing(runner: &mut Runner) {
    const LEN: usize = 64 << 10;
    let memory = pair!([access::memory::<()>](&[(0, LEN), (LEN as u64, LEN)]));
    let window = Window::new(2 * LEN);
    let places = places::same(PLACE_COUNT, LEN as u64 - 256);
    let mut ours = Buffer::new(512);
    let mut theirs = Buffer::new(512);
    let mut by_hand = Buffer::new(512);
    runner.compare(
        "read_slice 512 B across two regions",
        &mut |count| crate::ours::access::read_slice(&memory.ours, &mut ours, &places, count),
        &mut |count| crate::theirs::access::read_slice(&memory.theirs, &mut theirs, &places, count),
        Some(Limit {
            what: "two memcpy",
            run: &mut |count| window.copy_out(&mut by_hand, 2, &places, count),
        }),
    );
    let buffer = Buffer::new(512);
    compare!(
        runner,
        "write_slice 512 B across two regions",
        [access::write_slice](memory, &buffer, &places),
        Some(Limit {
            what: "two memcpy",
            run: &mut |count| window.copy_in(&buffer, 2, &places, count),
        }),
    );
}
