// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Replays the committed corpora on the compiler at hand: every file runs, and together they reach
//! every operation, each at least once with success.

use std::collections::BTreeMap;
use std::path::Path;

use guest_memory_fuzz_scripts::{
    bitmap, bytes, collection, differential, guest_builder, iotlb, stream, volatile_slice,
};

/// Fewer files than this means that the corpus got lost.
const FEWEST_FILES: usize = 24;

/// Runs every file of a corpus; returns how often each operation succeeded.
fn replay(
    corpus: &str,
    operations: &[&'static str],
    run: impl Fn(&[u8], &mut dyn FnMut(&'static str, bool)),
) -> BTreeMap<&'static str, usize> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../corpus")
        .join(corpus);
    let mut successes: BTreeMap<_, _> = operations.iter().map(|&name| (name, 0)).collect();
    let mut files = 0;
    for entry in std::fs::read_dir(&folder).expect("the corpus is committed") {
        let path = entry.expect("a readable folder").path();
        let data = std::fs::read(&path).expect("a readable file");
        // The name of a file that panics stands in the captured output.
        println!("{}", path.display());
        run(&data, &mut |name, succeeded| {
            *successes.entry(name).or_default() += usize::from(succeeded)
        });
        files += 1;
    }
    println!("{corpus}: {files} files, {successes:?}");
    assert!(
        files >= FEWEST_FILES,
        "only {files} files in {}",
        folder.display()
    );
    successes
}

#[test]
fn bitmap_corpus_agrees_with_the_model_and_reaches_every_operation() {
    let successes = replay("bitmap", &bitmap::OPERATIONS, |data, report| {
        bitmap::run_with(data, report);
    });
    assert!(successes.values().all(|&count| count > 0), "{successes:?}");
}

#[test]
fn bytes_corpus_agrees_with_the_model_and_reaches_every_operation() {
    let successes = replay("bytes", &bytes::OPERATIONS, |data, report| {
        bytes::run_with(data, report);
    });
    assert!(successes.values().all(|&count| count > 0), "{successes:?}");
}

#[test]
fn collection_corpus_agrees_with_the_model_and_reaches_every_operation() {
    let successes = replay("collection", &collection::OPERATIONS, |data, report| {
        collection::run_with(data, report);
    });
    assert!(successes.values().all(|&count| count > 0), "{successes:?}");
}

#[test]
fn differential_corpus_agrees_but_for_each_known_difference() {
    let differences: Vec<_> = differential::differences().map(|(name, _)| name).collect();
    let names = [&differential::OPERATIONS[..], &differences].concat();
    let successes = replay("differential", &names, |data, report| {
        differential::run_with(data, report);
    });
    assert!(successes.values().all(|&count| count > 0), "{successes:?}");
    for (name, reason) in differential::differences() {
        println!("{name}: {reason}");
    }
}

#[test]
fn guest_builder_corpus_has_the_expected_problems_and_becomes_the_described_memory() {
    let successes = replay(
        "guest_builder",
        &guest_builder::OPERATIONS,
        |data, report| {
            guest_builder::run_with(data, report);
        },
    );
    assert!(successes.values().all(|&count| count > 0), "{successes:?}");
}

#[test]
fn iotlb_corpus_agrees_with_the_model_and_reaches_every_operation() {
    let successes = replay("iotlb", &iotlb::OPERATIONS, |data, report| {
        iotlb::run_with(data, report);
    });
    assert!(successes.values().all(|&count| count > 0), "{successes:?}");
}

#[test]
fn stream_corpus_agrees_with_the_model_and_reaches_every_operation() {
    let successes = replay("stream", &stream::OPERATIONS, |data, report| {
        stream::run_with(data, report);
    });
    assert!(successes.values().all(|&count| count > 0), "{successes:?}");
}

#[test]
fn volatile_slice_corpus_agrees_with_the_model_and_reaches_every_operation() {
    let successes = replay(
        "volatile_slice",
        &volatile_slice::OPERATIONS,
        |data, report| {
            volatile_slice::run_with(data, report);
        },
    );
    assert!(successes.values().all(|&count| count > 0), "{successes:?}");
}

#[test]
fn any_bytes_make_a_script() {
    for data in [&[][..], &[0], &[0xff; 512], &[0x55; 4096]] {
        bitmap::run(data);
        bytes::run(data);
        collection::run(data);
        differential::run(data);
        guest_builder::run(data);
        iotlb::run(data);
        stream::run(data);
        volatile_slice::run(data);
    }
}
