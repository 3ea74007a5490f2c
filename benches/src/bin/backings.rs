// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What each backing costs: building, populating, random reads, giving pages back. A table in Markdown.
//!
//! `backings [ROUNDS]` takes the median of so many rounds, 5 if it is not said. Backings of huge pages need a pool of 1 GiB of
//! them; what the system does not give is left out, with the reason on standard error.

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use guest_memory::mmap::{Need, Prefault, Seals, Sharing, ShmObject, TransparentHugePages};
use guest_memory::{
    Backing, Bytes, GuestAddress, GuestRegionMmap, HugePageSize, MemoryRegionAddress, MmapRegion,
    MmapRegionBuilder, Policies,
};
use guest_memory_benches::places;
use guest_memory_benches::statistics::median;

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
    let rounds = match std::env::args().nth(1).map(|text| text.parse::<u32>()) {
        None => 5,
        Some(Ok(rounds)) if rounds > 0 => rounds,
        Some(_) => {
            eprintln!("usage: backings [ROUNDS]");
            return ExitCode::from(2);
        }
    };
    println!(
        "| backing | build + drop | populate, 1 thread | random read of 8 bytes | give back 2 MiB |"
    );
    println!("|---|--:|--:|--:|--:|");
    let folder = std::env::temp_dir();
    for kind in kinds(&folder) {
        match measure(&kind, rounds) {
            Ok(costs) => println!(
                "| {} | {:.1} us | {:.1} GiB/s | {:.1} ns | {:.0} us |",
                kind.name,
                costs.build_us,
                costs.populate_gib_per_s,
                costs.read_ns,
                costs.discard_us
            ),
            Err(error) => eprintln!("{}: left out: {}", kind.name, with_causes(&*error)),
        }
    }
    ExitCode::SUCCESS
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
    let thp = Policies::new().huge_pages(TransparentHugePages::Advise, Need::Required);
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

fn measure(kind: &Kind, rounds: u32) -> Result<Costs, Box<dyn Error>> {
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
