// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The tables by the names that pages call them by.

use super::{Records, themes};
use crate::report::{self, HARVESTS, LOOKUPS};

/// The records that the pages stand on, in the order of the table of records.
const KINDS: [&str; 9] = [
    "compare-release",
    "compare-lto",
    "limits-release",
    "limits-lto",
    "harvests",
    "lookups",
    "prefault",
    "flat",
    "backings",
];

/// Makes a table.
pub(super) fn table(records: &Records, name: &str) -> Result<String, String> {
    let kind = |make: fn(&crate::record::Record) -> Result<String, String>| {
        let record = records.newest(name)?;
        make(&record).map_err(|error| format!("{name}: {error}"))
    };
    match name {
        "compare-release" | "compare-lto" => kind(report::ratios),
        "limits-release" | "limits-lto" => kind(report::limits),
        "harvests" => kind(|record| HARVESTS.table(record)),
        "lookups" => kind(|record| LOOKUPS.table(record)),
        "prefault" => kind(report::prefault),
        "flat" => kind(report::flat),
        "backings" => kind(report::backings),
        "themes" => themes::summary(records),
        "records" => list(records),
        "instructions" => instructions(&records.instructions()?),
        _ => Err(format!("no table {name}")),
    }
}

/// Makes the list of records: where, when and how each was made.
fn list(records: &Records) -> Result<String, String> {
    let mut rows = Vec::new();
    for kind in KINDS {
        let record = records.newest(kind)?;
        let said = |key| record.said(key).map(str::to_owned);
        rows.push([
            kind.to_owned(),
            said("date")?,
            format!("`{}`", said("program")?),
            said("profile")?,
            record.run_count()?.to_string(),
            said("cpu")?,
            said("kernel")?,
            said("compiler")?,
        ]);
    }
    let heads = [
        "record", "date", "program", "profile", ">runs", "CPU", "kernel", "compiler",
    ];
    Ok(report::table(heads, &rows))
}

/// Makes the table of instructions.
fn instructions(text: &str) -> Result<String, String> {
    let mut rows = Vec::new();
    for line in text.lines().skip(1) {
        let fields: Vec<&str> = line.split(',').collect();
        let [case, release, lto] = fields[..] else {
            return Err(format!("not a line of the table of counts: {line}"));
        };
        rows.push([format!("`{case}`"), release.to_owned(), lto.to_owned()]);
    }
    let heads = ["path", ">release", ">with link-time optimisation"];
    Ok(report::table(heads, &rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_instructions_are_a_table() {
        assert_eq!(
            instructions("case,release,lto\nload_u64,46,44\n").unwrap(),
            "| path       | release | with link-time optimisation |\n\
             | ---------- | ------: | --------------------------: |\n\
             | `load_u64` |      46 |                          44 |\n"
        );
        assert!(instructions("case,release,lto\nload_u64\n").is_err());
    }
}
