// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The folder of records: `2026-12-01-x86_64-compare-release.csv` is a day, an architecture and a kind.

use std::fs;
use std::path::Path;

use super::Record;

/// Letters of a date.
const DATE_LEN: usize = "2026-12-01".len();

/// Reads the newest record of a kind from a folder.
///
/// # Errors
///
/// If there is none, or what reading it says.
pub fn newest(folder: &Path, kind: &str) -> Result<Record, String> {
    let describe = |what: &dyn std::fmt::Display| format!("{}: {what}", folder.display());
    let entries = fs::read_dir(folder).map_err(|error| describe(&error))?;
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(|error| describe(&error))?.file_name();
        names.extend(name.into_string());
    }
    let name = newest_of(&names, kind).ok_or_else(|| describe(&format!("no record of {kind}")))?;
    let text = fs::read_to_string(folder.join(name)).map_err(|error| describe(&error))?;
    Record::parse(&text).map_err(|error| format!("{name}: {error}"))
}

fn newest_of<'a>(names: &'a [String], kind: &str) -> Option<&'a str> {
    let of_kind = names
        .iter()
        .map(String::as_str)
        .filter(|name| kind_of(name) == Some(kind));
    of_kind.max()
}

/// Returns the kind of a record by the name of its file.
fn kind_of(name: &str) -> Option<&str> {
    let (date, rest) = name.split_at_checked(DATE_LEN)?;
    if !date.starts_with(|letter: char| letter.is_ascii_digit()) {
        return None;
    }
    let (_architecture, kind) = rest.strip_prefix('-')?.split_once('-')?;
    kind.strip_suffix(".csv")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_of_a_kind_is_found_among_others() {
        let names = [
            "2026-11-30-x86_64-compare-release.csv",
            "2026-12-01-x86_64-compare-release.csv",
            "2026-12-02-x86_64-compare-lto.csv",
            "2026-12-03-x86_64-release.csv",
            "instructions.csv",
        ]
        .map(str::to_owned);
        assert_eq!(
            newest_of(&names, "compare-release"),
            Some(names[1].as_str())
        );
        assert_eq!(newest_of(&names, "compare-lto"), Some(names[2].as_str()));
        assert_eq!(newest_of(&names, "flat"), None);
    }
}
