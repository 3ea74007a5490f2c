// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The tables of what is the system's work for the most part: populating memory, and backings.

use super::{figure, table};
use crate::record::{Group, Record};

/// The columns of a record of populating.
pub const PREFAULT: [&str; 6] = [
    "source",
    "mib",
    "rounds",
    "one_thread_ms",
    "two_threads_ms",
    "ratio",
];

/// The columns of a record of backings.
pub const BACKINGS: [&str; 5] = [
    "backing",
    "build_us",
    "populate_gib_per_s",
    "read_ns",
    "discard_us",
];

/// Returns how fast `mib` are populated in `milliseconds`, in GiB/s.
pub fn speed(mib: f64, milliseconds: f64) -> f64 {
    mib / 1024.0 / (milliseconds / 1e3)
}

/// Makes the table of populating memory.
///
/// # Errors
///
/// What the record lacks.
pub fn prefault(record: &Record) -> Result<String, String> {
    let row = |group: &Group<'_>| -> Result<[String; 5], String> {
        let mib = group.number("mib")?;
        let cell = |column| -> Result<String, String> {
            let time = group.number(column)?;
            Ok(format!(
                "{time:.0} ms, {} GiB/s",
                figure(Some(speed(mib, time)))
            ))
        };
        Ok([
            group.text("source")?.to_owned(),
            figure(Some(mib / 1024.0)),
            cell("one_thread_ms")?,
            cell("two_threads_ms")?,
            super::ratio(group.median("ratio")?),
        ])
    };
    let rows = record
        .groups(&["source"])?
        .iter()
        .map(row)
        .collect::<Result<Vec<_>, _>>()?;
    Ok(table(
        ["memory", ">GiB", ">1 thread", ">2 threads", ">ratio"],
        &rows,
    ))
}

/// Makes the table of backings.
///
/// # Errors
///
/// What the record lacks.
pub fn backings(record: &Record) -> Result<String, String> {
    let row = |group: &Group<'_>| -> Result<[String; 5], String> {
        Ok([
            group.text("backing")?.to_owned(),
            format!("{:.1} µs", group.number("build_us")?),
            format!("{:.1} GiB/s", group.number("populate_gib_per_s")?),
            format!("{:.0} ns", group.number("read_ns")?),
            format!("{:.0} µs", group.number("discard_us")?),
        ])
    };
    let rows = record
        .groups(&["backing"])?
        .iter()
        .map(row)
        .collect::<Result<Vec<_>, _>>()?;
    let heads = [
        "backing",
        ">build + drop",
        ">populate, 1 thread",
        ">random read of 8 bytes",
        ">give back 2 MiB",
    ];
    Ok(table(heads, &rows))
}
