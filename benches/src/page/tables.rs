// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The tables by the names that pages call them by.

use super::{Records, themes};
use crate::record::Record;
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
    let kind = |make: fn(&Record) -> Result<String, String>| {
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

/// Makes the list of records: where, when and how each was made, those of the same machine in one table.
fn list(records: &Records) -> Result<String, String> {
    let mut machines: Vec<(String, Vec<[String; 6]>)> = Vec::new();
    for kind in KINDS {
        let record = records.newest(kind)?;
        let said = |key| record.said(key).map(str::to_owned);
        let machine = format!(
            "{}; {}; {}.",
            said("cpu")?,
            said("kernel")?,
            said("compiler")?
        );
        let row = [
            kind.to_owned(),
            said("date")?,
            format!("`{}`", said("program")?),
            said("profile")?,
            record.run_count()?.to_string(),
            load(&record)?,
        ];
        match machines.iter_mut().find(|(it, _)| *it == machine) {
            Some((_, rows)) => rows.push(row),
            None => machines.push((machine, vec![row])),
        }
    }
    let heads = [
        "record",
        "date",
        "program",
        "profile",
        ">runs",
        ">load before",
    ];
    let tables = machines
        .iter()
        .map(|(machine, rows)| format!("{machine}\n\n{}", report::table(heads, rows)));
    Ok(tables.collect::<Vec<_>>().join("\n"))
}

/// The greatest load average before a run, as far as runs say one.
fn load(record: &Record) -> Result<String, String> {
    let runs = 1..=record.run_count()?;
    let before = runs.filter_map(|run| {
        let said = record.said(&format!("run {run}, load average")).ok()?;
        said.split(' ').next()?.parse::<f64>().ok()
    });
    let greatest = before.reduce(f64::max);
    Ok(greatest.map_or_else(String::new, |it| format!("{it:.2}")))
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
    fn the_greatest_load_is_shown() {
        let text = "# run 1, load average: 0.25 before, 1.00 after\n# run 2, load average: 0.75 before, 0.80 after\n\
                    run,case\n1,a\n2,a\n3,a\n";
        assert_eq!(load(&Record::parse(text).unwrap()), Ok("0.75".to_owned()));
        assert_eq!(load(&Record::new(&["case"])), Ok(String::new()));
    }

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
