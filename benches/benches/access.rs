// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Objects and buffers in a memory of one region, against `vm-memory` and the access by hand.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use guest_memory_benches::limit::Window;
use guest_memory_benches::{ours, pair, places, theirs};

const MEMORY_LEN: usize = 4 << 20;

fn objects(criterion: &mut Criterion) {
    let memory = pair!([access::memory::<()>](&[(0, MEMORY_LEN)]));
    let window = Window::new(MEMORY_LEN);
    let places = places::random(1024, 4096, 16);

    let mut group = criterion.benchmark_group("read_obj u32");
    group.bench_function("ours", |bencher| {
        bencher.iter_custom(|count| {
            ours::access::read_obj::<u32, ()>(&memory.ours, &places, count).scaled_to(count)
        });
    });
    group.bench_function("vm-memory", |bencher| {
        bencher.iter_custom(|count| {
            theirs::access::read_obj::<u32, ()>(&memory.theirs, &places, count).scaled_to(count)
        });
    });
    group.bench_function("volatile read", |bencher| {
        bencher.iter_custom(|count| window.read::<u32>(&places, count).scaled_to(count));
    });
    group.finish();

    let mut group = criterion.benchmark_group("write_obj u32");
    group.bench_function("ours", |bencher| {
        bencher.iter_custom(|count| {
            ours::access::write_obj(&memory.ours, 1u32, &places, count).scaled_to(count)
        });
    });
    group.bench_function("vm-memory", |bencher| {
        bencher.iter_custom(|count| {
            theirs::access::write_obj(&memory.theirs, 1u32, &places, count).scaled_to(count)
        });
    });
    group.bench_function("volatile write", |bencher| {
        bencher.iter_custom(|count| window.write(1u32, &places, count).scaled_to(count));
    });
    group.finish();
}

fn buffers(criterion: &mut Criterion) {
    let memory = pair!([access::memory::<()>](&[(0, MEMORY_LEN)]));
    let window = Window::new(MEMORY_LEN);
    let places = places::same(1, 1 << 20);

    let mut group = criterion.benchmark_group("read_slice");
    for len_bytes in [64, 512, 4 << 10, 64 << 10, 1 << 20] {
        group.throughput(Throughput::Bytes(len_bytes as u64));
        let mut buffer = vec![1; len_bytes];
        group.bench_function(BenchmarkId::new("ours", len_bytes), |bencher| {
            bencher.iter_custom(|count| {
                ours::access::read_slice(&memory.ours, &mut buffer, &places, count).scaled_to(count)
            });
        });
        group.bench_function(BenchmarkId::new("vm-memory", len_bytes), |bencher| {
            bencher.iter_custom(|count| {
                theirs::access::read_slice(&memory.theirs, &mut buffer, &places, count)
                    .scaled_to(count)
            });
        });
        group.bench_function(BenchmarkId::new("memcpy", len_bytes), |bencher| {
            bencher.iter_custom(|count| {
                window
                    .copy_out(&mut buffer, 1, &places, count)
                    .scaled_to(count)
            });
        });
    }
    group.finish();
}

criterion_group!(benches, objects, buffers);
criterion_main!(benches);
