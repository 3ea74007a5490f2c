// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Marks and harvests of a dirty bitmap, against `vm-memory` and plain passes over the words.

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use guest_memory_benches::limit::Words;
use guest_memory_benches::{ours, pair, places, theirs};

/// Bytes that the log covers.
const LOG_LEN: usize = 2 << 30;

/// Bytes that a word of the log covers.
const WORD_COVERS: usize = 64 * 4096;

fn marks(criterion: &mut Criterion) {
    let bitmap = pair!([dirty::bitmap](LOG_LEN));
    let words = Words::new(LOG_LEN / WORD_COVERS);
    let places = places::same(1, 1 << 30);

    let mut group = criterion.benchmark_group("mark");
    for len_bytes in [4 << 10, 2 << 20, 1 << 30] {
        group.bench_function(BenchmarkId::new("ours", len_bytes), |bencher| {
            bencher.iter_custom(|count| {
                ours::dirty::mark(&bitmap.ours, len_bytes, &places, count).scaled_to(count)
            });
        });
        group.bench_function(BenchmarkId::new("vm-memory", len_bytes), |bencher| {
            bencher.iter_custom(|count| {
                theirs::dirty::mark(&bitmap.theirs, len_bytes, &places, count).scaled_to(count)
            });
        });
        let word_count = len_bytes.div_ceil(WORD_COVERS);
        group.bench_function(BenchmarkId::new("plain stores", len_bytes), |bencher| {
            bencher.iter_custom(|count| words.store(word_count, count).scaled_to(count));
        });
    }
    group.finish();
}

fn harvests(criterion: &mut Criterion) {
    let bitmap = pair!([dirty::bitmap](LOG_LEN));
    let words = Words::new(LOG_LEN / WORD_COVERS);

    let mut group = criterion.benchmark_group("harvest 2 GiB");
    for dirty_count in [0, 100] {
        let dirty = places::random(dirty_count, LOG_LEN as u64, 4096);
        group.bench_function(BenchmarkId::new("ours", dirty_count), |bencher| {
            bencher.iter_custom(|count| {
                ours::dirty::harvest(&bitmap.ours, &dirty, count).scaled_to(count)
            });
        });
        group.bench_function(BenchmarkId::new("vm-memory", dirty_count), |bencher| {
            bencher.iter_custom(|count| {
                theirs::dirty::harvest(&bitmap.theirs, &dirty, count).scaled_to(count)
            });
        });
    }
    group.bench_function("plain read of the log", |bencher| {
        bencher.iter_custom(|count| words.read(count).scaled_to(count));
    });
    group.finish();
}

criterion_group!(benches, marks, harvests);
criterion_main!(benches);
