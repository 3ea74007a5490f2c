// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The suites under test: each mutant is caught by its suite, and the twin without the fault passes.

use std::fmt::{self, Debug, Display};
use std::thread;

use guest_memory_conformance::streams::{self, Ends};
use guest_memory_conformance::{
    Config, Pages, address_space, backing, bitmap, bytes, bytes_ext, copy, dirty_log, io_memory,
    mark_order, memory, region, volatile_memory,
};
use guest_memory_core::Permissions;
use guest_memory_mmap::Sharing;

use crate::caught;
use crate::faulty::{
    BackingFault, BitmapFault, BytesFault, FaultyBacking, FaultyBitmap, FaultyBytes, FaultyFile,
    FaultyIo, FaultyLog, FaultyMemory, FaultyOrder, FaultyRegion, FaultyRom, FaultySpace,
    FaultyStream, FaultyVolatile, IoFault, LogFault, MemoryFault, OrderFault, RegionFault,
    RomFault, SpaceFault, StreamFault, VolatileFault, WithinFault, offset_of,
};
use crate::toys::PAGE_SIZE;

/// Mutants that the table has at least, so that none is lost with a suite.
const FEWEST: usize = 205;

/// What became of one mutant.
struct Outcome {
    mutant: String,
    suite: &'static str,
    /// The first line of what the suite says, or why that will not do.
    told: Result<String, String>,
}

impl Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Ok(told) | Err(told)) = &self.told;
        write!(f, "{:<28} {:<16} {told}", self.mutant, self.suite)
    }
}

/// Runs a suite on its twin and on all of its mutants. Messages must hold the mutant's word, and tell what was expected.
fn outcomes<F: Copy + Debug>(
    suite: &'static str,
    faults: &[(F, &str)],
    check: impl Fn(Config, Option<F>),
) -> Vec<Outcome> {
    check(Config::default().cases(64), None);
    let outcome = |&(fault, word): &(F, &str)| {
        let message = caught(|| check(thorough(), Some(fault)));
        let told = match message {
            None => Err("SURVIVED".to_owned()),
            Some(message) if !message.contains(word) => Err(format!("NOT {word:?}: {message}")),
            Some(message) if !message.contains("expected") => {
                Err(format!("EXPECTED WHAT? {message}"))
            }
            Some(message) => Ok(message.lines().next().unwrap_or_default().to_owned()),
        };
        Outcome {
            mutant: format!("{fault:?}"),
            suite,
            told,
        }
    };
    faults.iter().map(outcome).collect()
}

/// So many cases that chance lets no fault pass; a suite ends at the first one that shows it.
fn thorough() -> Config {
    Config::default().cases(20_000)
}

#[test]
fn every_mutant_is_caught_and_its_twin_passes() {
    let suites: [fn() -> Vec<Outcome>; 9] = [
        bitmaps,
        regions_and_memories,
        io_memories,
        accesses,
        copies,
        containers,
        backings,
        spaces,
        all_streams,
    ];
    // Threads of this test's: a panic that a suite makes is part of its output.
    let outcomes = thread::scope(|scope| {
        let running = suites.map(|suite| scope.spawn(suite));
        running.map(|suite| suite.join().expect("a twin without a fault passes"))
    });
    let outcomes: Vec<Outcome> = outcomes.into_iter().flatten().collect();
    for outcome in &outcomes {
        println!("{outcome}");
    }
    let caught = outcomes
        .iter()
        .filter(|outcome| outcome.told.is_ok())
        .count();
    println!("mutants caught: {caught} of {}", outcomes.len());
    let survivors: Vec<_> = outcomes
        .iter()
        .filter(|outcome| outcome.told.is_err())
        .collect();
    for survivor in &survivors {
        eprintln!("not caught as it has to be: {survivor}");
    }
    assert!(survivors.is_empty(), "{} mutants survived", survivors.len());
    assert!(outcomes.len() >= FEWEST);
}

fn bitmaps() -> Vec<Outcome> {
    let mut all = outcomes("bitmap", &BitmapFault::ALL, |config, fault| {
        bitmap::check_with(config, |len| FaultyBitmap::new(fault, len));
    });
    all.extend(outcomes("bitmap", &BitmapFault::RACES, |config, fault| {
        bitmap::check_concurrent(config, |len| FaultyBitmap::new(fault, len));
    }));
    all.extend(outcomes("dirty_log", &LogFault::ALL, |config, fault| {
        dirty_log::check_with(config, |len| FaultyLog::new(fault, len));
    }));
    all
}

fn regions_and_memories() -> Vec<Outcome> {
    let mut all = outcomes("region", &RegionFault::ALL, |config, fault| {
        region::check_with(config, |start, len| FaultyRegion::new(fault, start, len));
    });
    all.extend(outcomes("region", &RomFault::ALL, |config, fault| {
        region::check_read_only(config, |start, len| FaultyRom::new(fault, start, len));
    }));
    all.extend(outcomes("memory", &MemoryFault::ALL, |config, fault| {
        memory::check_with(config, |ranges| FaultyMemory::new(fault, ranges));
    }));
    all
}

fn io_memories() -> Vec<Outcome> {
    let kinds = [
        Permissions::ReadWrite,
        Permissions::Read,
        Permissions::Write,
        Permissions::No,
    ];
    outcomes("io_memory", &IoFault::ALL, |config, fault| {
        let make = |ranges: &[io_memory::Range]| FaultyIo::new(fault, ranges);
        // Said and not measured: what loses marks is to be told by a script.
        let config = config.pages(Pages::OfBytes(PAGE_SIZE));
        io_memory::check_with(config, &kinds, make, FaultyIo::dirty_at);
    })
}

fn accesses() -> Vec<Outcome> {
    let mut all = outcomes("bytes", &BytesFault::ALL, |config, fault| {
        bytes::check_with(
            config,
            |len| FaultyBytes::new(fault, len),
            offset_of,
            FaultyBytes::mark,
            FaultyBytes::dirty_at,
        );
    });
    all.extend(outcomes(
        "bytes_ext",
        &BytesFault::EXTENDED,
        |config, fault| {
            bytes_ext::check_with(
                config,
                |len| FaultyBytes::new(fault, len),
                offset_of,
                FaultyBytes::mark,
                FaultyBytes::dirty_at,
            );
        },
    ));
    all.extend(outcomes(
        "bytes_ext",
        &BytesFault::CHANGES,
        |config, fault| {
            bytes_ext::check_concurrent(config, |len| FaultyBytes::new(fault, len), offset_of);
        },
    ));
    all.extend(outcomes("mark_order", &OrderFault::EXTENDED, |_, fault| {
        mark_order::check(
            |len, witness| FaultyOrder::new(fault, len, &witness),
            offset_of,
        );
    }));
    all.extend(outcomes("mark_order", &OrderFault::ALL, |_, fault| {
        mark_order::check_bytes(
            |len, witness| FaultyOrder::new(fault, len, &witness),
            offset_of,
        );
    }));
    all
}

fn copies() -> Vec<Outcome> {
    let mut all = outcomes("copy", &BytesFault::COPIES, |config, fault| {
        copy::check_with(
            config,
            |len| FaultyBytes::new(fault, len),
            offset_of,
            FaultyBytes::mark,
            FaultyBytes::dirty_at,
        );
    });
    all.extend(outcomes(
        "copy (within)",
        &WithinFault::ALL,
        |config, fault| {
            copy::check_within(
                config,
                |len| FaultyBytes::new(None, len),
                offset_of,
                FaultyBytes::mark,
                FaultyBytes::dirty_at,
                |bytes, from, to, len| bytes.copy_within(fault, from, to, len),
            );
        },
    ));
    all.extend(outcomes(
        "copy (untorn)",
        &BytesFault::RACES,
        |config, fault| {
            copy::check_untorn(config, |len| FaultyBytes::new(fault, len), offset_of);
        },
    ));
    all
}

fn containers() -> Vec<Outcome> {
    outcomes("volatile_memory", &VolatileFault::ALL, |config, fault| {
        volatile_memory::check_with(config, |len| FaultyVolatile::new(fault, len));
    })
}

fn backings() -> Vec<Outcome> {
    // A fault of one kind of files does not show in the other.
    outcomes("backing", &BackingFault::ALL, |config, fault| {
        for sharing in [Sharing::Shared, Sharing::Private] {
            backing::check_with(config, FaultyBacking::new(fault, sharing));
        }
    })
}

fn spaces() -> Vec<Outcome> {
    let mut all = outcomes("address_space", &SpaceFault::ALL, |config, fault| {
        address_space::check_with(
            config,
            |ranges| FaultySpace::new(fault, ranges),
            Some(FaultySpace::replace),
        );
    });
    all.extend(outcomes(
        "address_space",
        &SpaceFault::RACES,
        |config, fault| {
            address_space::check_concurrent(
                config,
                |ranges| FaultySpace::new(fault, ranges),
                FaultySpace::replace,
            );
        },
    ));
    all
}

fn all_streams() -> Vec<Outcome> {
    let mut all = outcomes("source", &StreamFault::SOURCES, |config, fault| {
        streams::check_source_with(config, Ends::WithNothing, |bytes| {
            FaultyStream::source(fault, false, bytes)
        });
    });
    all.extend(outcomes("source", &StreamFault::BROKEN, |config, fault| {
        streams::check_source_with(config, Ends::WithAnError, |bytes| {
            FaultyStream::source(fault, true, bytes)
        });
    }));
    all.extend(outcomes("sink", &StreamFault::SINKS, |config, fault| {
        let make = |room| FaultyStream::sink(fault, room);
        streams::check_sink_with(config, Ends::WithNothing, make, FaultyStream::taken);
    }));
    all.extend(outcomes(
        "source at",
        &StreamFault::FILES,
        |config, fault| {
            streams::check_source_at_with(config, |bytes| FaultyFile::new(fault, bytes));
        },
    ));
    all.extend(outcomes("sink at", &StreamFault::FILES, |config, fault| {
        let make = |room| FaultyFile::new(fault, &vec![0; room]);
        streams::check_sink_at_with(config, Ends::WithNothing, make, FaultyFile::start);
    }));
    all
}
