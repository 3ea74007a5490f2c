// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Tables and plots in Markdown, of times that grow with something.

use std::fmt::Write;

/// One line: what was done, and the times of both sides in nanoseconds.
#[derive(Clone, Debug)]
pub struct Line {
    /// What was done.
    pub name: String,
    /// This library.
    pub ours: f64,
    /// `vm-memory`.
    pub theirs: f64,
}

/// How the lines are shown.
#[derive(Clone, Copy, Debug)]
pub struct Plot {
    /// What the lines differ in, the head of the table's first column.
    pub head: &'static str,
    /// Where the axis begins, in nanoseconds.
    pub origin: f64,
    /// Characters for a factor of ten.
    pub decade: usize,
}

impl Plot {
    /// Makes the table and the plot below it.
    ///
    /// In the plot `#` goes up to this library's time and `v` is at that of `vm-memory`, on a logarithmic scale.
    pub fn markdown(&self, lines: &[Line]) -> String {
        let mut text = format!(
            "| {} | ours | vm-memory | ratio |\n|---|--:|--:|--:|\n",
            self.head
        );
        for Line { name, ours, theirs } in lines {
            let cells = (time(*ours), time(*theirs), theirs / ours);
            let _ = writeln!(
                text,
                "| {name} | {} | {} | {:.1} |",
                cells.0, cells.1, cells.2
            );
        }
        let width = lines
            .iter()
            .map(|line| line.name.chars().count())
            .max()
            .unwrap_or(0);
        let last = lines
            .iter()
            .map(|line| line.ours.max(line.theirs))
            .fold(0.0, f64::max);
        let _ = writeln!(text, "\n```text\n{:width$}  {}", "", self.scale(last));
        for line in lines {
            let _ = writeln!(text, "{:>width$}  {}", line.name, self.bar(line));
        }
        text + "```\n"
    }

    /// A mark at each power of ten, up to the one above `last`.
    fn scale(&self, last: f64) -> String {
        let mut marks = String::new();
        let mut at = self.origin;
        loop {
            let _ = write!(marks, "{:<1$}", short(at), self.decade);
            if at > last {
                return marks.trim_end().to_owned();
            }
            at *= 10.0;
        }
    }

    fn bar(&self, line: &Line) -> String {
        let (ours, theirs) = (self.column(line.ours), self.column(line.theirs));
        let mark = |column| match column {
            column if column == theirs => 'v',
            column if column <= ours => '#',
            _ => ' ',
        };
        (0..=ours.max(theirs)).map(mark).collect()
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "columns are few and not negative"
    )]
    fn column(&self, nanoseconds: f64) -> usize {
        let decades = (nanoseconds / self.origin).log10().max(0.0);
        (decades * self.decade as f64).round() as usize
    }
}

const UNITS: [(f64, &str); 4] = [(1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1.0, "ns")];

/// A time with its unit and three figures or so.
fn time(nanoseconds: f64) -> String {
    let (unit, name) = unit(nanoseconds);
    let value = nanoseconds / unit;
    let digits = if value < 10.0 {
        2
    } else {
        usize::from(value < 100.0)
    };
    format!("{value:.digits$} {name}")
}

/// A power of ten with its unit.
fn short(nanoseconds: f64) -> String {
    let (unit, name) = unit(nanoseconds * 1.001);
    format!("{:.0} {name}", nanoseconds / unit)
}

fn unit(nanoseconds: f64) -> (f64, &'static str) {
    let fitting = UNITS.into_iter().find(|(unit, _)| nanoseconds >= *unit);
    fitting.unwrap_or((1.0, "ns"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units_and_bars_are_logarithmic() {
        let plot = Plot {
            head: "pages",
            origin: 10.0,
            decade: 7,
        };
        let line = |name: &str, ours, theirs| Line {
            name: name.to_owned(),
            ours,
            theirs,
        };
        let text = plot.markdown(&[line("one", 10.0, 1234.5), line("a few", 25_000.0, 100.0)]);
        assert_eq!(
            text,
            "| pages | ours | vm-memory | ratio |\n|---|--:|--:|--:|\n\
             | one | 10.0 ns | 1.23 µs | 123.5 |\n\
             | a few | 25.0 µs | 100 ns | 0.0 |\n\
             \n```text\n       10 ns  100 ns 1 µs   10 µs  100 µs\n  \
             one  #              v\na few  #######v#################\n```\n"
        );
    }
}
