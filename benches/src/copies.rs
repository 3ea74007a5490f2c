// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The copies that are measured: how long, and where.

use crate::places;

/// Places per table; its 8 KiB leave room in the first-level cache.
pub const PLACE_COUNT: usize = 1024;

/// The copies between buffers and guest memory.
pub const COPIES: [Copies; 9] = [
    Copies::at_lines("64 B", 64),
    Copies::at_lines("128 B", 128),
    Copies::at_lines("256 B", 256),
    Copies::at_lines("512 B", 512),
    Copies::beyond_lines("60 B, 3 beyond a line", 60, 3),
    Copies::beyond_lines("500 B, 1 beyond a line", 500, 1),
    Copies::at_lines("4 KiB", 4 << 10),
    Copies::at_lines("64 KiB", 64 << 10),
    Copies::at_lines("1 MiB", 1 << 20),
];

/// Copies of one length.
#[derive(Clone, Copy, Debug)]
pub struct Copies {
    /// The length, and what is special about the places.
    pub name: &'static str,
    /// Bytes of each.
    pub len_bytes: usize,
    /// Bytes from the start of a cache line to the start of each copy.
    beyond_line: u64,
}

impl Copies {
    /// Describes copies that begin with a cache line.
    pub const fn at_lines(name: &'static str, len_bytes: usize) -> Self {
        Self::beyond_lines(name, len_bytes, 0)
    }

    /// Describes copies that begin so many bytes after the start of a cache line.
    const fn beyond_lines(name: &'static str, len_bytes: usize, beyond_line: u64) -> Self {
        Self {
            name,
            len_bytes,
            beyond_line,
        }
    }

    /// Returns where they go: short ones all over 16 KiB, long ones always to one place.
    pub fn places(self) -> Vec<u64> {
        let lines = match self.len_bytes {
            0..=512 => places::random(PLACE_COUNT, 16 << 10, 64),
            _ => places::same(1, 1 << 20),
        };
        places::shifted(&lines, self.beyond_line)
    }
}
