// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The monitor's own output, and the guest's text in it.

use std::fmt;
use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::layout::rate;

/// The longest line a guest may print; a longer one is cut into several.
const LONGEST_LINE_BYTES: usize = 1024;

/// Prints one line of the monitor's report.
macro_rules! say {
    ($($argument:tt)*) => { $crate::console::print_line(format_args!($($argument)*)) };
}
pub(crate) use say;

/// Prints a line to standard output; a reader that went away does not stop the guest.
pub(crate) fn print_line(line: fmt::Arguments<'_>) {
    // The error is ignored on purpose: `println!` would panic when the output is a closed pipe.
    let mut output = std::io::stdout().lock();
    if IS_BAR_SHOWN.swap(false, Ordering::Relaxed) {
        let _ = write!(output, "{ERASE_LINE}");
    }
    let _ = writeln!(output, "{line}");
}

/// Goes back to the line's start and erases it.
const ERASE_LINE: &str = "\r\x1b[K";
/// Cells of a progress bar.
const BAR_CELLS: usize = 40;
/// Time between two pictures of a progress bar.
const BAR_PAUSE: Duration = Duration::from_millis(50);
/// Whether the last line of the terminal is a progress bar; the lock of standard output guards it.
static IS_BAR_SHOWN: AtomicBool = AtomicBool::new(false);

/// A line on a terminal that shows how far something is; nothing where the output goes elsewhere.
#[derive(Debug)]
pub(crate) struct ProgressBar {
    label: String,
    total: u64,
    is_terminal: bool,
    start: Instant,
    last: Option<Instant>,
}

impl ProgressBar {
    /// Makes a bar that is full when `total` is done.
    pub(crate) fn new(label: impl Into<String>, total: u64) -> Self {
        ProgressBar {
            label: label.into(),
            total,
            is_terminal: std::io::stdout().is_terminal(),
            start: Instant::now(),
            last: None,
        }
    }

    /// Shows how much is done, if that was not shown a moment ago.
    pub(crate) fn show(&mut self, done: u64) {
        if !self.is_terminal || self.last.is_some_and(|last| last.elapsed() < BAR_PAUSE) {
            return;
        }
        self.last = Some(Instant::now());
        let mut output = std::io::stdout().lock();
        let rate = rate(done, self.start.elapsed());
        let text = bar_text(&self.label, done, self.total, rate);
        let _ = write!(output, "{ERASE_LINE}{text}").and_then(|()| output.flush());
        IS_BAR_SHOWN.store(true, Ordering::Relaxed);
    }
}

impl Drop for ProgressBar {
    fn drop(&mut self) {
        let mut output = std::io::stdout().lock();
        if self.is_terminal && IS_BAR_SHOWN.swap(false, Ordering::Relaxed) {
            let _ = write!(output, "{ERASE_LINE}").and_then(|()| output.flush());
        }
    }
}

/// Formats a bar; `rate` is in MiB per second.
fn bar_text(label: &str, done: u64, total: u64, rate: f64) -> String {
    let total = total.max(1);
    let percent = u128::from(done.min(total)) * 100 / u128::from(total);
    let percent = usize::try_from(percent).unwrap_or(100);
    let full = "#".repeat(BAR_CELLS * percent / 100);
    format!("  {label} [{full:.<BAR_CELLS$}] {percent:>3} %  {rate:>6.0} MiB/s")
}

/// The text a guest prints, one byte at a time.
#[derive(Debug, Default)]
pub(crate) struct Console {
    line: Vec<u8>,
    lines: Vec<String>,
}

impl Console {
    /// Takes one byte from the guest and prints the line it completes.
    pub(crate) fn push(&mut self, byte: u8) {
        match byte {
            b'\n' => self.finish_line(),
            b'\r' | 0 => {}
            _ => {
                if self.line.len() == LONGEST_LINE_BYTES {
                    self.finish_line();
                }
                self.line.push(byte);
            }
        }
    }

    /// Prints what is left of an unfinished line.
    pub(crate) fn flush(&mut self) {
        if !self.line.is_empty() {
            self.finish_line();
        }
    }

    /// Returns the lines printed since the last call.
    pub(crate) fn take_lines(&mut self) -> Vec<String> {
        std::mem::take(&mut self.lines)
    }

    fn finish_line(&mut self) {
        // A guest must not be able to control the terminal.
        let text: String = String::from_utf8_lossy(&self.line)
            .chars()
            .map(|c| if c.is_control() && c != '\t' { '.' } else { c })
            .collect();
        self.line.clear();
        say!("  guest> {text}");
        self.lines.push(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_of_the_guest_are_not_printed() {
        let mut console = Console::default();
        b"a\x1b[2Jb\r\n".iter().for_each(|&byte| console.push(byte));
        assert_eq!(console.take_lines(), ["a.[2Jb"]);
        assert!(console.take_lines().is_empty());
    }

    #[test]
    fn a_bar_grows_from_empty_to_full_and_keeps_its_length() {
        let dots = ".".repeat(40);
        assert_eq!(
            bar_text("round 0", 0, 7, 0.0),
            format!("  round 0 [{dots}]   0 %       0 MiB/s")
        );
        let half = format!(
            "  x [{}{}]  50 %    1234 MiB/s",
            "#".repeat(20),
            ".".repeat(20)
        );
        assert_eq!(bar_text("x", u64::MAX / 2 + 1, u64::MAX, 1234.4), half);
        assert!(bar_text("x", 9, 7, 5.0).ends_with("##] 100 %       5 MiB/s"));
        assert!(bar_text("x", 0, 0, 5.0).contains("..]   0 %"));
    }

    #[test]
    fn an_endless_line_is_cut() {
        let mut console = Console::default();
        (0..LONGEST_LINE_BYTES + 1).for_each(|_| console.push(b'x'));
        console.flush();
        assert_eq!(
            console
                .take_lines()
                .iter()
                .map(String::len)
                .collect::<Vec<_>>(),
            [LONGEST_LINE_BYTES, 1]
        );
    }
}
