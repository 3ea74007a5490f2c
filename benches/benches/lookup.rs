// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Finding the region of a random address, against `vm-memory` and a binary search in a plain array.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use guest_memory_benches::measure::repeat_at;
use guest_memory_benches::{ours, pair, places, theirs};

/// Bytes from one region's start to the next one's; the second half is a hole.
const STRIDE: u64 = 8192;

fn find_region(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("find_region");
    for region_count in [1, 8, 64, 512, 4096] {
        let ranges: Vec<(u64, usize)> = (0..region_count)
            .map(|number| (number * STRIDE, 4096))
            .collect();
        let starts: Vec<u64> = ranges.iter().map(|&(start, _)| start).collect();
        let memory = pair!([access::memory::<()>](&ranges));
        let places = places::random(8192, region_count * STRIDE, STRIDE);
        group.bench_function(BenchmarkId::new("ours", region_count), |bencher| {
            bencher.iter_custom(|count| {
                ours::access::find_region(&memory.ours, &places, count).scaled_to(count)
            });
        });
        group.bench_function(BenchmarkId::new("vm-memory", region_count), |bencher| {
            bencher.iter_custom(|count| {
                theirs::access::find_region(&memory.theirs, &places, count).scaled_to(count)
            });
        });
        group.bench_function(BenchmarkId::new("plain search", region_count), |bencher| {
            bencher.iter_custom(|count| {
                repeat_at(&places, count, |place| {
                    black_box(black_box(&starts).partition_point(|&start| start <= place));
                })
                .scaled_to(count)
            });
        });
    }
    group.finish();
}

criterion_group!(benches, find_region);
criterion_main!(benches);
