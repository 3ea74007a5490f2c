// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The hot paths do not grow unnoticed.

use guest_memory_benches::instructions::{self, Profile};

#[test]
fn no_hot_path_has_grown_by_more_than_a_tenth() {
    if let Some(reason) = instructions::why_not() {
        println!("skipped: {reason}");
        return;
    }
    let table = instructions::count(&[Profile::Release]).unwrap();
    println!("{table}");
    let grown = table.grown_from(&instructions::recorded().unwrap());
    assert!(
        grown.is_empty(),
        "{}\nif that is meant: .ci/instructions --record",
        grown.join("\n")
    );
}
