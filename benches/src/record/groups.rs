// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The same row in all runs, and its medians.

use super::Record;
use crate::statistics::median;

/// The rows that say the same in the columns they are told apart by, one a run.
#[derive(Debug)]
pub struct Group<'a> {
    columns: &'a [String],
    rows: Vec<&'a [String]>,
}

impl Record {
    /// Returns the groups of rows that are told apart by these columns, as they first appear.
    ///
    /// # Errors
    ///
    /// Names a column that is missing.
    pub fn groups(&self, by: &[&str]) -> Result<Vec<Group<'_>>, String> {
        let by: Vec<usize> = by
            .iter()
            .map(|name| index(&self.columns, name))
            .collect::<Result<_, _>>()?;
        let mut groups: Vec<Group<'_>> = Vec::new();
        for row in &self.rows {
            let is_same = |group: &&mut Group<'_>| {
                let first = group.rows.first();
                first.is_some_and(|first| by.iter().all(|&column| first[column] == row[column]))
            };
            match groups.iter_mut().find(is_same) {
                Some(group) => group.rows.push(row),
                None => groups.push(Group {
                    columns: &self.columns,
                    rows: vec![row],
                }),
            }
        }
        Ok(groups)
    }
}

impl Group<'_> {
    /// Returns what the first run says in a column.
    ///
    /// # Errors
    ///
    /// Names the column if it is missing.
    pub fn text(&self, column: &str) -> Result<&str, String> {
        let column = index(self.columns, column)?;
        Ok(self.rows.first().map_or("", |row| &row[column]))
    }

    /// Returns the median of a column over the runs, or nothing if its fields are empty.
    ///
    /// # Errors
    ///
    /// Names the column if it is missing, or the field that is no number.
    pub fn median(&self, column: &str) -> Result<Option<f64>, String> {
        let column = index(self.columns, column)?;
        let fields = self.rows.iter().map(|row| row[column].as_str());
        let values = fields
            .filter(|field| !field.is_empty())
            .map(|field| field.parse().map_err(|_| format!("{field} is no number")))
            .collect::<Result<Vec<f64>, String>>()?;
        Ok((!values.is_empty()).then(|| median(&values)))
    }

    /// Returns the median of a column that has no empty fields.
    ///
    /// # Errors
    ///
    /// As [`median`](Self::median), and if all fields are empty.
    pub fn number(&self, column: &str) -> Result<f64, String> {
        self.median(column)?
            .ok_or_else(|| format!("a row has no {column}"))
    }
}

fn index(columns: &[String], name: &str) -> Result<usize, String> {
    columns
        .iter()
        .position(|column| column == name)
        .ok_or_else(|| format!("the record has no column {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_those_of_the_runs_that_have_a_figure() {
        let record = Record::parse(
            "run,case,ours,limit\n1,a,3,\n1,b,10,7\n2,a,1,\n2,b,20,\n3,a,2,\n3,b,60,9\n",
        )
        .unwrap();
        let groups = record.groups(&["case"]).unwrap();
        let [a, b] = &groups[..] else {
            panic!("{groups:?}")
        };
        assert_eq!((a.text("case"), b.text("case")), (Ok("a"), Ok("b")));
        assert_eq!((a.number("ours"), b.number("ours")), (Ok(2.0), Ok(20.0)));
        assert_eq!(
            (a.median("limit"), b.median("limit")),
            (Ok(None), Ok(Some(8.0)))
        );
        assert!(a.number("limit").is_err());
        assert!(a.median("case").is_err());
        assert!(record.groups(&["place"]).is_err());
    }
}
