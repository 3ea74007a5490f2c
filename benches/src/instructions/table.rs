// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The table of counts: as text, and one against another.

use std::collections::BTreeMap;
use std::fmt;

use super::Profile;

const HEADER: &str = "case,release,lto";

/// Instructions per operation, by case and profile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    counts: BTreeMap<String, [Option<u64>; Profile::ALL.len()]>,
}

impl Table {
    /// Reads a table as it is displayed.
    ///
    /// # Errors
    ///
    /// Names the line that is not one of such a table.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut lines = text.lines();
        if lines.next() != Some(HEADER) {
            return Err(format!("the table of counts does not begin with {HEADER}"));
        }
        let mut table = Self::default();
        for line in lines {
            let mut fields = line.split(',');
            let case = fields.next().unwrap_or_default();
            for profile in Profile::ALL {
                let field = fields.next().ok_or_else(|| no_line(line))?;
                if !field.is_empty() {
                    table.set(case, profile, field.parse().map_err(|_| no_line(line))?);
                }
            }
        }
        Ok(table)
    }

    /// Puts a count in.
    pub fn set(&mut self, case: &str, profile: Profile, instructions: u64) {
        self.counts.entry(case.to_owned()).or_default()[profile as usize] = Some(instructions);
    }

    /// Returns a line for each count that is more than a tenth above the recorded one, or not recorded.
    pub fn grown_from(&self, recorded: &Self) -> Vec<String> {
        let mut grown = Vec::new();
        for (case, counts) in &self.counts {
            for (profile, now) in Profile::ALL.into_iter().zip(counts) {
                let Some(now) = now else { continue };
                let before = recorded
                    .counts
                    .get(case)
                    .and_then(|counts| counts[profile as usize]);
                match before {
                    Some(before) if *now * 10 <= before * 11 => {}
                    Some(before) => grown.push(format!(
                        "{case}, {profile}: {now} instructions, recorded are {before}"
                    )),
                    None => grown.push(format!(
                        "{case}, {profile}: {now} instructions, recorded are none"
                    )),
                }
            }
        }
        grown
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEADER}")?;
        for (case, counts) in &self.counts {
            write!(f, "{case}")?;
            for count in counts {
                write!(
                    f,
                    ",{}",
                    count.map_or_else(String::new, |count| count.to_string())
                )?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

fn no_line(line: &str) -> String {
    format!("not a line of the table of counts: {line}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(release: u64) -> Table {
        let mut table = Table::default();
        table.set("read", Profile::Release, release);
        table
    }

    #[test]
    fn a_table_comes_back_from_its_text() {
        let mut whole = table(20);
        whole.set("write", Profile::Lto, 7);
        assert_eq!(whole.to_string(), "case,release,lto\nread,20,\nwrite,,7\n");
        assert_eq!(Table::parse(&whole.to_string()), Ok(whole));
        assert!(Table::parse("case,release\n").is_err());
        assert!(Table::parse("case,release,lto\nread,many,\n").is_err());
    }

    #[test]
    fn only_a_growth_of_more_than_a_tenth_is_named() {
        assert!(table(22).grown_from(&table(20)).is_empty());
        assert!(table(5).grown_from(&table(20)).is_empty());
        assert_eq!(
            table(23).grown_from(&table(20)),
            ["read, release: 23 instructions, recorded are 20"]
        );
        assert_eq!(
            table(23).grown_from(&Table::default()),
            ["read, release: 23 instructions, recorded are none"]
        );
    }
}
