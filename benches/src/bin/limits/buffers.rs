// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Buffers by guest address.

use guest_memory_benches::buffer::Buffer;
use guest_memory_benches::copies::COPIES;
use guest_memory_benches::limit::Window;
use guest_memory_benches::measure::{Limit, Runner};
use guest_memory_benches::ours;

use super::{MEMCPY, MEMORY_LEN};

/// `read_slice` and `write_slice`.
pub(super) fn buffers(runner: &mut Runner) {
    let memory = ours::access::memory::<()>(&[(0, MEMORY_LEN)]);
    let window = Window::new(MEMORY_LEN);
    for copies in COPIES {
        let places = copies.places();
        let mut buffer = Buffer::new(copies.len_bytes);
        let mut by_hand = Buffer::new(copies.len_bytes);
        runner.against_limit(
            &format!("read_slice {}", copies.name),
            &mut |count| ours::access::read_slice(&memory, &mut buffer, &places, count),
            Limit {
                what: MEMCPY,
                run: &mut |count| window.copy_out(&mut by_hand, 1, &places, count),
            },
        );
        runner.against_limit(
            &format!("write_slice {}", copies.name),
            &mut |count| ours::access::write_slice(&memory, &buffer, &places, count),
            Limit {
                what: MEMCPY,
                run: &mut |count| window.copy_in(&by_hand, 1, &places, count),
            },
        );
    }
}
