// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Plots of letters, for a terminal, of times that grow with something.

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
    /// Where the axis begins, in nanoseconds.
    pub origin: f64,
    /// Characters for a factor of ten.
    pub decade: usize,
}

impl Plot {
    /// Makes the plot.
    ///
    /// `#` goes up to this library's time and `v` is at that of `vm-memory`, on a logarithmic scale.
    pub fn markdown(&self, lines: &[Line]) -> String {
        let width = lines
            .iter()
            .map(|line| line.name.chars().count())
            .max()
            .unwrap_or(0);
        let last = lines
            .iter()
            .map(|line| line.ours.max(line.theirs))
            .fold(0.0, f64::max);
        let mut text = format!("```text\n{:width$}  {}\n", "", self.scale(last));
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

/// Returns a time with its unit and three figures or so.
pub fn time(nanoseconds: f64) -> String {
    let (unit, name) = unit(nanoseconds);
    let value = nanoseconds / unit;
    let digits = if value < 10.0 {
        2
    } else {
        usize::from(value < 100.0)
    };
    format!("{value:.digits$} {name}")
}

/// Returns a power of ten with its unit.
pub fn short(nanoseconds: f64) -> String {
    let (unit, name) = unit(nanoseconds * 1.001);
    let value = nanoseconds / unit;
    let digits = usize::from(value < 0.95);
    format!("{value:.digits$} {name}")
}

fn unit(nanoseconds: f64) -> (f64, &'static str) {
    let fitting = UNITS.into_iter().find(|(unit, _)| nanoseconds >= *unit);
    fitting.unwrap_or((1.0, "ns"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_logarithmic() {
        let plot = Plot {
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
            "```text\n       10 ns  100 ns 1 µs   10 µs  100 µs\n  \
             one  #              v\na few  #######v#################\n```\n"
        );
    }

    #[test]
    fn times_have_units_and_three_figures() {
        let texts = [0.7, 10.0, 100.0, 1234.5, 25_000.0, 6.2e9].map(time);
        assert_eq!(
            texts,
            [
                "0.70 ns", "10.0 ns", "100 ns", "1.23 µs", "25.0 µs", "6.20 s"
            ]
        );
        assert_eq!([0.1, 1.0, 1e4].map(short), ["0.1 ns", "1 ns", "10 µs"]);
    }
}
