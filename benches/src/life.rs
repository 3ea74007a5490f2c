// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Things that are made and dropped, each of the two timed apart.

use std::hint::black_box;
use std::time::{Duration, Instant};

use crate::measure::Sample;

/// Which part of a life is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Making it.
    Build,
    /// Dropping it.
    Drop,
}

/// Makes and drops values, `batch_len` at once, and takes the time of one part.
pub fn time_part<T>(
    batch_len: usize,
    part: Part,
    count: u64,
    mut make: impl FnMut() -> T,
) -> Sample {
    let mut elapsed = Duration::ZERO;
    let mut operations = 0;
    let mut values = Vec::with_capacity(batch_len);
    while operations < count.max(1) {
        let start = Instant::now();
        for _ in 0..batch_len {
            values.push(black_box(make()));
        }
        let made = Instant::now();
        values.clear();
        elapsed += match part {
            Part::Build => made - start,
            Part::Drop => made.elapsed(),
        };
        operations += batch_len as u64;
    }
    Sample {
        elapsed,
        operations,
    }
}
