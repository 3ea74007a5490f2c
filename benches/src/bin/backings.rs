// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What each backing costs: building, populating, random reads, giving pages back. A table in Markdown.
//!
//! Backings of huge pages need a pool of 1 GiB of them; what the system does not give is left out, with the reason on
//! standard error.

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use guest_memory::mmap::{Need, Prefault, Seals, Sharing, ShmObject, TransparentHugePages};
use guest_memory::{
    Backing, Bytes, GuestAddress, GuestRegionMmap, HugePageSize, MemoryRegionAddress, MmapRegion,
    MmapRegionBuilder, Policies,
};
use guest_memory_benches::command_line::{Options, Program};
use guest_memory_benches::record::{Record, number};
use guest_memory_benches::statistics::median;
use guest_memory_benches::{places, report};

/// Bytes of the region.
const LEN: usize = 1 << 30;
/// Bytes that are given back at once: a huge page.
const PART: usize = 2 << 20;
/// Regions built and dropped in a round, and bytes of them.
const BUILDS: u32 = 200;
const SMALL: usize = 2 << 20;
/// Places that are read, and reads of a round.
const PLACES: usize = 1 << 16;
const READS: usize = 1 << 20;

/// A row of the table.
struct Kind {
    name: &'static str,
    backing: Backing,
    policies: Policies,
    /// Fewest bytes that it can have.
    granule: usize,
}

/// Medians.
struct Costs {
    build_us: f64,
    populate_gib_per_s: f64,
    read_ns: f64,
    discard_us: f64,
}

fn main() -> ExitCode {
    Program {
        name: "backings",
        round_count: 5,
        size_mib: None,
        measure: run,
        print: report::backings,
    }
    .main()
}

fn run(options: &Options) -> Result<Record, Box<dyn Error>> {
    let mut record = Record::new(&report::BACKINGS);
    for kind in kinds(&std::env::temp_dir()) {
        if !options.wants(kind.name) {
            continue;
        }
        eprintln!("{}", kind.name);
        match measure(&kind, options.round_count) {
            Ok(costs) => {
                let figures = [
                    costs.build_us,
                    costs.populate_gib_per_s,
                    costs.read_ns,
                    costs.discard_us,
                ];
                let figures = figures.map(|figure| number(Some(figure)));
                record.push([kind.name.to_owned()].into_iter().chain(figures));
            }
            Err(error) => eprintln!("{}: left out: {}", kind.name, with_causes(&*error)),
        }
    }
    Ok(record)
}

fn kinds(folder: &Path) -> Vec<Kind> {
    let anonymous = |sharing, huge_pages| Backing::Anonymous {
        sharing,
        huge_pages,
    };
    let memfd = |huge_pages| Backing::Memfd {
        name: "bench".to_owned(),
        seals: Seals::ALL,
        huge_pages,
    };
    let file = |sharing| Backing::File {
        path: folder.join(format!("guest-memory-backings-{}", std::process::id())),
        offset: 0,
        sharing,
        grow: true,
    };
    let shm = Backing::Shm {
        name: format!("/guest-memory-backings-{}", std::process::id()),
        object: ShmObject::CreateUnlinked,
    };
    let (two_mib, one_gib) = (Some(HugePageSize::TwoMiB), Some(HugePageSize::OneGiB));
    let thp =
        Policies::new().with_transparent_huge_pages(TransparentHugePages::Advise, Need::Required);
    let plain = |name, backing, granule| Kind {
        name,
        backing,
        policies: Policies::new(),
        granule,
    };
    vec![
        plain(
            "anonymous, private",
            anonymous(Sharing::Private, None),
            4096,
        ),
        Kind {
            policies: thp,
            ..plain("the same, transparent huge pages", Backing::default(), 4096)
        },
        plain("anonymous, shared", anonymous(Sharing::Shared, None), 4096),
        plain("memfd", memfd(None), 4096),
        plain("shm", shm, 4096),
        plain("file, shared", file(Sharing::Shared), 4096),
        plain("file, private", file(Sharing::Private), 4096),
        plain(
            "anonymous, pages of 2 MiB",
            anonymous(Sharing::Private, two_mib),
            2 << 20,
        ),
        plain("memfd, pages of 2 MiB", memfd(two_mib), 2 << 20),
        plain(
            "anonymous, pages of 1 GiB",
            anonymous(Sharing::Private, one_gib),
            1 << 30,
        ),
        plain("memfd, pages of 1 GiB", memfd(one_gib), 1 << 30),
    ]
}

fn measure(kind: &Kind, rounds: usize) -> Result<Costs, Box<dyn Error>> {
    let (mut builds, mut populates, mut reads, mut discards) = (vec![], vec![], vec![], vec![]);
    for _ in 0..rounds {
        let small = SMALL.max(kind.granule);
        let start = Instant::now();
        for _ in 0..BUILDS {
            drop(build(kind, small)?);
        }
        builds.push(start.elapsed().as_secs_f64() * 1e6 / f64::from(BUILDS));

        let region = build(kind, LEN)?;
        let start = Instant::now();
        region.prefault(&Prefault::new())?;
        populates.push(1.0 / start.elapsed().as_secs_f64());

        let region =
            GuestRegionMmap::new(region, GuestAddress(0)).ok_or("past the last address")?;
        reads.push(read(&region)?);

        let part = PART.max(kind.granule);
        let parts = (LEN / part).min(64);
        let start = Instant::now();
        for index in 0..parts {
            region.discard(index * part, part)?;
        }
        discards
            .push(start.elapsed().as_secs_f64() * 1e6 / parts as f64 * PART as f64 / part as f64);
    }
    if let Backing::File { path, .. } = &kind.backing {
        std::fs::remove_file(path)?;
    }
    Ok(Costs {
        build_us: median(&builds),
        populate_gib_per_s: median(&populates),
        read_ns: median(&reads),
        discard_us: median(&discards),
    })
}

fn build(kind: &Kind, len: usize) -> Result<MmapRegion, Box<dyn Error>> {
    let builder = MmapRegionBuilder::new(len)
        .with_backing(kind.backing.clone())
        .with_policies(kind.policies.clone());
    Ok(builder.build()?)
}

/// Returns the nanoseconds of a read at a random place, each of which waits for the one before.
fn read(region: &GuestRegionMmap) -> Result<f64, Box<dyn Error>> {
    let places = places::random(PLACES, LEN as u64, 64);
    let start = Instant::now();
    let mut seen = 0u64;
    for index in 0..READS {
        // Memory is zero, which the processor does not know: so one read depends on the other.
        let place = places.get(index % PLACES).copied().unwrap_or_default() ^ seen;
        seen |= region.read_obj::<u64>(MemoryRegionAddress(place))?;
    }
    if seen != 0 {
        return Err("fresh memory is not zero".into());
    }
    Ok(start.elapsed().as_secs_f64() * 1e9 / READS as f64)
}

fn with_causes(error: &(dyn Error + 'static)) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", with_causes(source)),
        None => error.to_string(),
    }
}
