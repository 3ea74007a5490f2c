// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Memory of huge pages, bound to a node, populated before the guest runs; what the system lacks is told.
//!
//! `cargo run --example huge_pages` uses the pool as it is; with an empty one it says what is missing and goes on with
//! transparent huge pages.

use std::error::Error;
use std::num::NonZeroUsize;

use guest_memory::mmap::{
    Need, NumaNode, NumaPolicy, Population, Prefault, PrefaultProgress, Seals,
    TransparentHugePages, prefault_all,
};
use guest_memory::{
    Backing, Bytes, GuestAddress, GuestMemory, GuestMemoryBuilder, GuestMemoryMmap, HugePageSize,
    MemoryTable, Policies, RegionSpec,
};

const SIZE: usize = 32 << 20;

fn main() -> Result<(), Box<dyn Error>> {
    let backing = Backing::Memfd {
        name: "ram".to_owned(),
        seals: Seals::ALL,
        huge_pages: Some(HugePageSize::TwoMiB),
    };
    let on_node = Policies::new().with_numa(NumaPolicy::Bind(NumaNode(0).into()), Need::Wished);
    let from_pool = GuestMemoryBuilder::new().with_region(
        RegionSpec::new("ram", GuestAddress(0), SIZE)
            .with_backing(backing)
            .with_policies(on_node.clone()),
    );
    print!("the plan:\n{}", from_pool.plan());
    let memory: GuestMemoryMmap = match from_pool.build() {
        Ok(memory) => memory,
        Err(error) => {
            println!("no pages from the pool: {error}");
            println!("fill it with: echo 16 > /proc/sys/vm/nr_hugepages");
            without_pool(on_node)?
        }
    };

    // What a guest would wait for later, and what would be a SIGBUS, is done and found now.
    let progress = |progress: PrefaultProgress| {
        println!("populated {} of {} bytes", progress.done, progress.total);
    };
    let prefault = Prefault::new()
        .with_threads(NonZeroUsize::MIN)
        .with_progress(&progress);
    prefault_all(memory.iter().map(|region| &**region), &prefault)?;

    memory.write_obj(1_u64, GuestAddress(SIZE as u64 - 8))?;
    println!("what became of the policies:");
    for region in memory.iter() {
        print!("{}", region.policies());
    }
    println!("{}", MemoryTable::new(&memory));

    // A balloon gives two pages back.
    let region = memory.find_region(GuestAddress(0)).ok_or("no region")?;
    let report = region.discard(0, 4 << 20)?;
    match report.freed {
        Some(freed) => println!("gave {freed} bytes back by {}", report.method),
        None => println!("gave back by {}, how much is not known", report.method),
    }
    Ok(())
}

/// The kernel puts pages together by itself, if it is asked to and has some.
fn without_pool(policies: Policies) -> Result<GuestMemoryMmap, Box<dyn Error>> {
    let policies = policies
        .with_transparent_huge_pages(TransparentHugePages::Advise, Need::Wished)
        .with_population(
            Population {
                threads: NonZeroUsize::MIN,
            },
            Need::Required,
        );
    let region = RegionSpec::new("ram", GuestAddress(0), SIZE).with_policies(policies);
    Ok(GuestMemoryBuilder::new().with_region(region).build()?)
}
