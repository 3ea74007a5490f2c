// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What populating memory costs, by its source and by the number of threads: a table in Markdown.
//!
//! A round has each case once, so that what disturbs the machine for a while disturbs all. Huge pages are added to the
//! system's pool for the time, which takes root.

use std::error::Error;
use std::fs;
use std::io;
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::time::Instant;

use guest_memory::mmap::{HugePageSize, MmapRegion, MmapRegionBuilder, Prefault};
use guest_memory_benches::command_line::{Options, Program};
use guest_memory_benches::record::{Record, number};
use guest_memory_benches::report;
use guest_memory_benches::statistics::median;

const MIB: usize = 1 << 20;
const THREADS: [usize; 2] = [1, 2];

/// Where memory comes from.
#[derive(Clone, Copy)]
enum Source {
    Anonymous,
    MemoryFile,
    HugePages,
}

/// The times of one source, in milliseconds, by the number of threads.
struct Row {
    source: Source,
    rounds: [Vec<f64>; THREADS.len()],
}

fn main() -> ExitCode {
    Program {
        name: "prefault",
        round_count: 5,
        size_mib: Some(4096),
        measure: run,
        print: report::prefault,
    }
    .main()
}

fn run(options: &Options) -> Result<Record, Box<dyn Error>> {
    let rounds = options.round_count;
    let huge_page = HugePageSize::TwoMiB.size_bytes();
    let size = options
        .size_mib
        .checked_mul(MIB)
        .and_then(|size| size.checked_next_multiple_of(huge_page))
        .ok_or("so much memory has no number")?;

    let mut sources = vec![Source::Anonymous, Source::MemoryFile];
    let pool = Pool::with(size / huge_page);
    match &pool {
        Ok(_) => sources.push(Source::HugePages),
        Err(error) => eprintln!("skipped: huge pages: {error}"),
    }
    sources.retain(|source| options.wants(source.name()));
    let mut rows: Vec<_> = sources.into_iter().map(Row::new).collect();
    // The first round warms up.
    for round in 0..=rounds {
        eprintln!("round {round} of {rounds}");
        for row in &mut rows {
            for (times, threads) in row.rounds.iter_mut().zip(THREADS) {
                let time = measure(row.source, size, threads)?;
                if round > 0 {
                    times.push(time);
                }
            }
        }
    }
    let mut record = Record::new(&report::PREFAULT);
    for row in rows {
        record.push(row.fields(size));
    }
    Ok(record)
}

/// Populates new memory and returns how many milliseconds that took.
fn measure(source: Source, size: usize, threads: usize) -> Result<f64, String> {
    let builder = MmapRegionBuilder::new(size);
    let region: MmapRegion = match source {
        Source::Anonymous => builder,
        Source::MemoryFile => builder.with_memfd("prefault"),
        Source::HugePages => builder.with_huge_pages(HugePageSize::TwoMiB),
    }
    .build()
    .map_err(|error| format!("{}: {error}", source.name()))?;
    let threads = NonZeroUsize::new(threads).ok_or("no threads")?;
    let how = Prefault::new().with_threads(threads);
    let start = Instant::now();
    let report = region.prefault(&how);
    let time = start.elapsed();
    let report = report.map_err(|error| format!("{}: {error}", source.name()))?;
    match report.populated {
        populated if populated == size => Ok(time.as_secs_f64() * 1e3),
        populated => Err(format!("{populated} of {size} bytes populated")),
    }
}

impl Source {
    fn name(self) -> &'static str {
        match self {
            Self::Anonymous => "anonymous",
            Self::MemoryFile => "memory file",
            Self::HugePages => "huge pages of 2 MiB",
        }
    }
}

impl Row {
    fn new(source: Source) -> Self {
        Self {
            source,
            rounds: Default::default(),
        }
    }

    /// Returns the medians with one thread and with two, and how many times faster two are, in the order of the record.
    fn fields(&self, size: usize) -> [String; report::PREFAULT.len()] {
        let [one, two] = self.rounds.each_ref().map(|times| median(times));
        [
            self.source.name().to_owned(),
            (size / MIB).to_string(),
            self.rounds[0].len().to_string(),
            number(Some(one)),
            number(Some(two)),
            number(Some(one / two)),
        ]
    }
}

/// Pages added to the system's pool of 2 MiB pages, and taken away again.
struct Pool {
    before: usize,
}

impl Pool {
    const PAGES: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";

    fn with(pages: usize) -> io::Result<Self> {
        let count = || {
            let text = fs::read_to_string(Self::PAGES)?;
            text.trim().parse::<usize>().map_err(io::Error::other)
        };
        let pool = Self { before: count()? };
        let wanted = pool.before + pages;
        fs::write(Self::PAGES, wanted.to_string())?;
        match count()? {
            found if found >= wanted => Ok(pool),
            found => Err(io::Error::other(format!(
                "the pool has {found} pages of {wanted}"
            ))),
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if let Err(error) = fs::write(Self::PAGES, self.before.to_string()) {
            eprintln!("cannot restore the pool of huge pages: {error}");
        }
    }
}
