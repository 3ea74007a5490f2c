// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The monitor's own output, and the guest's text in it.

use std::fmt;
use std::io::Write;

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
    let _ = writeln!(std::io::stdout().lock(), "{line}");
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
