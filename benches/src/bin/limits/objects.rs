// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Objects and atomics by guest address, within one page.

use guest_memory_benches::copies::PLACE_COUNT;
use guest_memory_benches::descriptor::Descriptor;
use guest_memory_benches::limit::Window;
use guest_memory_benches::measure::{Limit, Runner};
use guest_memory_benches::{ours, places};

use super::{MEMORY_LEN, VOLATILE_READ, VOLATILE_WRITE};

/// `read_obj` and `write_obj`.
pub(super) fn objects(runner: &mut Runner) {
    let memory = ours::access::memory::<()>(&[(0, MEMORY_LEN)]);
    let window = Window::new(MEMORY_LEN);
    let places = places::random(PLACE_COUNT, 4096, 16);

    macro_rules! object {
        ($name:expr, $type:ty, $value:expr, $raw:ty, $raw_value:expr, $reads:expr, $writes:expr) => {
            runner.against_limit(
                concat!("read_obj ", $name),
                &mut |count| ours::access::read_obj::<$type, ()>(&memory, &places, count),
                Limit {
                    what: $reads,
                    run: &mut |count| window.read::<$raw>(&places, count),
                },
            );
            runner.against_limit(
                concat!("write_obj ", $name),
                &mut |count| ours::access::write_obj::<$type, ()>(&memory, $value, &places, count),
                Limit {
                    what: $writes,
                    run: &mut |count| window.write::<$raw>($raw_value, &places, count),
                },
            );
        };
    }
    object!("u8", u8, 1, u8, 1, VOLATILE_READ, VOLATILE_WRITE);
    object!("u16", u16, 1, u16, 1, VOLATILE_READ, VOLATILE_WRITE);
    object!("u32", u32, 1, u32, 1, VOLATILE_READ, VOLATILE_WRITE);
    object!("u64", u64, 1, u64, 1, VOLATILE_READ, VOLATILE_WRITE);
    object!(
        "descriptor (16 bytes)",
        Descriptor,
        Descriptor::default(),
        [u64; 2],
        [0; 2],
        "two volatile reads",
        "two volatile writes"
    );
}

/// `load`, acquiring, and `store`, releasing.
pub(super) fn atomics(runner: &mut Runner) {
    let memory = ours::access::memory::<()>(&[(0, MEMORY_LEN)]);
    let window = Window::new(MEMORY_LEN);
    let places = places::random(PLACE_COUNT, 4096, 16);

    macro_rules! atomic {
        ($type:ty) => {
            runner.against_limit(
                concat!("load ", stringify!($type)),
                &mut |count| ours::access::load::<$type, ()>(&memory, &places, count),
                Limit {
                    what: VOLATILE_READ,
                    run: &mut |count| window.read::<$type>(&places, count),
                },
            );
            runner.against_limit(
                concat!("store ", stringify!($type)),
                &mut |count| ours::access::store::<$type, ()>(&memory, 1, &places, count),
                Limit {
                    what: VOLATILE_WRITE,
                    run: &mut |count| window.write::<$type>(1, &places, count),
                },
            );
        };
    }
    atomic!(u32);
    atomic!(u64);
}
