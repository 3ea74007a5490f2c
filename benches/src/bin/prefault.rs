// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What populating memory costs, by its source and by the number of threads: a table in Markdown, and a CSV file.
//!
//! `prefault [MIB [ROUNDS [CSV]]]` takes the median of so many rounds, 5 if it is not said, of so much memory, 4096 MiB if it
//! is not said, and writes the same to the file CSV. A round has each case once, so that what disturbs the
//! machine for a while disturbs all. Huge pages are added to the system's pool for the time, which takes root.

use std::fs;
use std::io;
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::time::Instant;

use guest_memory::mmap::{HugePageSize, MmapRegion, MmapRegionBuilder, Prefault};
use guest_memory_benches::statistics::median;

const USAGE: &str = "usage: prefault [MIB [ROUNDS [CSV]]]";
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
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<(), String> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default: usize| match arguments.next().map(|text| text.parse()) {
        None => Ok(default),
        Some(Ok(number)) if number > 0 => Ok(number),
        Some(_) => Err(USAGE.to_owned()),
    };
    let (mib, rounds) = (number(4096)?, number(5)?);
    let csv = arguments.next();
    let huge_page = HugePageSize::TwoMiB.size_bytes();
    let size = mib
        .checked_mul(MIB)
        .and_then(|size| size.checked_next_multiple_of(huge_page))
        .ok_or(USAGE)?;

    let mut sources = vec![Source::Anonymous, Source::MemoryFile];
    let pool = Pool::with(size / huge_page);
    match &pool {
        Ok(_) => sources.push(Source::HugePages),
        Err(error) => eprintln!("skipped: huge pages: {error}"),
    }
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
    print!("{}", markdown(&rows, size));
    if let Some(path) = csv {
        fs::write(&path, comma_separated(&rows, size))
            .map_err(|error| format!("{path}: {error}"))?;
    }
    Ok(())
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

    /// Returns the medians with one thread and with two, and how many times faster two are.
    fn figures(&self) -> (f64, f64, f64) {
        let [one, two] = self.rounds.each_ref().map(|times| median(times));
        (one, two, one / two)
    }
}

fn markdown(rows: &[Row], size: usize) -> String {
    let mut text = format!(
        "| {} MiB of | 1 thread, ms | 2 threads, ms | ratio | 1 thread, GiB/s | 2 threads, GiB/s |\n\
         |---|---:|---:|---:|---:|---:|\n",
        size / MIB
    );
    for row in rows {
        let (one, two, ratio) = row.figures();
        let speed = |time: f64| size as f64 / (1u64 << 30) as f64 / (time / 1e3);
        text += &format!(
            "| {} | {one:.1} | {two:.1} | {ratio:.2} | {:.2} | {:.2} |\n",
            row.source.name(),
            speed(one),
            speed(two),
        );
    }
    text
}

fn comma_separated(rows: &[Row], size: usize) -> String {
    let mut text = "source,mib,rounds,one_thread_ms,two_threads_ms,ratio\n".to_owned();
    for row in rows {
        let (one, two, ratio) = row.figures();
        text += &format!(
            "\"{}\",{},{},{one:.3},{two:.3},{ratio:.3}\n",
            row.source.name(),
            size / MIB,
            row.rounds[0].len(),
        );
    }
    text
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
