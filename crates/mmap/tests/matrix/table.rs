// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The table that is printed: a line for each backing, and below it why something was skipped or failed.

use std::fmt;

use crate::subject::Skip;

/// What came of one test.
pub(crate) enum Cell {
    Passed,
    Skipped(Skip),
    Failed(String),
}

impl Cell {
    fn word(&self) -> &'static str {
        match self {
            Self::Passed => "ok",
            Self::Skipped(_) => "skipped",
            Self::Failed(_) => "FAILED",
        }
    }

    fn reason(&self) -> Option<&str> {
        match self {
            Self::Passed => None,
            Self::Skipped(skip) => Some(&skip.reason),
            Self::Failed(message) => Some(message),
        }
    }
}

/// What came of all tests.
pub(crate) struct Table {
    columns: Vec<&'static str>,
    rows: Vec<(&'static str, Vec<Cell>)>,
}

impl Table {
    pub(crate) fn new(columns: Vec<&'static str>) -> Self {
        Self {
            columns,
            rows: Vec::new(),
        }
    }

    pub(crate) fn push(&mut self, name: &'static str, cells: Vec<Cell>) {
        assert_eq!(cells.len(), self.columns.len());
        self.rows.push((name, cells));
    }

    /// Counts what failed.
    pub(crate) fn failures(&self) -> usize {
        self.count(|cell| matches!(cell, Cell::Failed(_)))
    }

    /// Counts what was skipped although the machine may have what it needs.
    pub(crate) fn unexcused(&self) -> usize {
        self.count(|cell| matches!(cell, Cell::Skipped(skip) if !skip.is_excused))
    }

    fn count(&self, is_counted: impl Fn(&Cell) -> bool) -> usize {
        let cells = self.rows.iter().flat_map(|(_, cells)| cells);
        cells.filter(|cell| is_counted(cell)).count()
    }

    /// Lists the reasons of a row, each with the columns that it is of.
    fn reasons<'a>(&self, cells: &'a [Cell]) -> Vec<(&'a Cell, String)> {
        let mut reasons: Vec<(&Cell, String)> = Vec::new();
        for (cell, column) in cells.iter().zip(&self.columns) {
            let Some(reason) = cell.reason() else {
                continue;
            };
            match reasons
                .iter_mut()
                .find(|(known, _)| known.reason() == Some(reason))
            {
                Some((_, columns)) => {
                    columns.push_str(", ");
                    columns.push_str(column);
                }
                None => reasons.push((cell, (*column).to_owned())),
            }
        }
        reasons
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widest = self.rows.iter().map(|(name, _)| name.len()).max();
        let width = widest.unwrap_or(0);
        write!(f, "{:width$}", "backing")?;
        for column in &self.columns {
            write!(f, "  {column:8}")?;
        }
        for (name, cells) in &self.rows {
            write!(f, "\n{name:width$}")?;
            for cell in cells {
                write!(f, "  {:8}", cell.word())?;
            }
        }
        writeln!(f)?;
        for (name, cells) in &self.rows {
            for (cell, columns) in self.reasons(cells) {
                let reason = cell.reason().unwrap_or_default();
                write!(f, "\n{}: {reason} ({name}: {columns})", cell.word())?;
            }
        }
        Ok(())
    }
}
