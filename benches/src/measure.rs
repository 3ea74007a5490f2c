// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The clockwork: loops that time themselves, and rounds that run the sides in turn.

use std::hint::black_box;
use std::time::{Duration, Instant};

use crate::statistics::median;

/// How long one side runs in one round, at least.
const SPAN: Duration = Duration::from_millis(4);

/// What a timed loop took.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// The time of all operations.
    pub elapsed: Duration,
    /// How many there were.
    pub operations: u64,
}

impl Sample {
    /// Returns the time of one operation, in nanoseconds.
    pub fn nanoseconds_each(&self) -> f64 {
        self.elapsed.as_secs_f64() * 1e9 / self.operations as f64
    }

    /// Returns the time that `operations` of these would take.
    pub fn scaled_to(&self, operations: u64) -> Duration {
        Duration::from_secs_f64(self.nanoseconds_each() * operations as f64 / 1e9)
    }
}

/// Runs an operation at least `count` times and takes the time.
#[inline(always)]
pub fn repeat(count: u64, mut operation: impl FnMut()) -> Sample {
    let operations = count.max(1);
    let start = Instant::now();
    for _ in 0..operations {
        operation();
    }
    Sample {
        elapsed: start.elapsed(),
        operations,
    }
}

/// Runs an operation on each of `places`, over and over until there were at least `count`, and takes the time.
#[inline(always)]
pub fn repeat_at(places: &[u64], count: u64, mut operation: impl FnMut(u64)) -> Sample {
    let pass_count = count.div_ceil(places.len() as u64).max(1);
    let start = Instant::now();
    for _ in 0..pass_count {
        for &place in places {
            operation(place);
        }
    }
    Sample {
        elapsed: start.elapsed(),
        operations: pass_count * places.len() as u64,
    }
}

/// A side of a case: does at least so many operations and says what they took.
pub type Side<'a> = &'a mut dyn FnMut(u64) -> Sample;

/// The same work by hand.
#[expect(missing_debug_implementations, reason = "holds a closure")]
pub struct Limit<'a> {
    /// What is done, in a few words.
    pub what: &'static str,
    /// Does it.
    pub run: Side<'a>,
}

/// One line of the table. Times are medians over the rounds, in nanoseconds per operation.
#[derive(Clone, Debug)]
pub struct Row {
    /// What was measured.
    pub case: String,
    /// This library.
    pub ours: f64,
    /// `vm-memory`, where it takes part.
    pub theirs: Option<f64>,
    /// The work by hand, and what that is.
    pub limit: Option<(f64, &'static str)>,
}

impl Row {
    /// Returns how many times faster this library is than `vm-memory`.
    pub fn ratio(&self) -> Option<f64> {
        Some(self.theirs? / self.ours)
    }

    /// Returns this library's time beyond the limit, in nanoseconds.
    pub fn over_limit(&self) -> Option<f64> {
        Some(self.ours - self.limit?.0)
    }

    /// Returns this library's speed as a fraction of the limit's.
    pub fn limit_ratio(&self) -> Option<f64> {
        Some(self.limit?.0 / self.ours)
    }
}

/// How many places on the stack the rounds go through.
const STACK_STEPS: usize = 16;

/// Runs something so many steps further down the stack, 16 of which are about a page.
///
/// Where the low bits of a place on the stack are those of the memory that is written, loads wait for stores that they
/// have nothing to do with, and a copy of 64 bytes can take three times as long. Which side that hits depends on the
/// program and its environment, so the rounds go through all places.
#[inline(never)]
fn deeper(steps: usize, run: &mut dyn FnMut()) {
    let mut room = [0u8; 224];
    black_box(&mut room);
    match steps.checked_sub(1) {
        Some(rest) => deeper(rest, run),
        None => run(),
    }
    black_box(&mut room);
}

/// Runs cases and keeps the results.
#[derive(Debug)]
pub struct Runner {
    round_count: usize,
    filter: Option<String>,
    rows: Vec<Row>,
}

impl Runner {
    /// Makes a runner of so many rounds, for the cases whose name contains `filter`.
    pub fn new(round_count: usize, filter: Option<String>) -> Self {
        Self {
            round_count,
            filter,
            rows: Vec::new(),
        }
    }

    /// Measures a case: each round runs every side once, each time beginning with another.
    pub fn compare<'a>(
        &mut self,
        case: &str,
        ours: Side<'a>,
        theirs: Side<'a>,
        limit: Option<Limit<'a>>,
    ) {
        self.run(case, ours, Some(theirs), limit);
    }

    /// Measures a case without `vm-memory`, in the same way.
    pub fn against_limit<'a>(&mut self, case: &str, ours: Side<'a>, limit: Limit<'a>) {
        self.run(case, ours, None, Some(limit));
    }

    fn run<'a>(
        &mut self,
        case: &str,
        ours: Side<'a>,
        theirs: Option<Side<'a>>,
        limit: Option<Limit<'a>>,
    ) {
        if !self.wants(case) {
            return;
        }
        eprintln!("{case}");
        let what = limit.as_ref().map(|limit| limit.what);
        let mut ours = Timed::new(ours);
        let mut theirs = theirs.map(Timed::new);
        let mut limit = limit.map(|limit| Timed::new(limit.run));
        for round in 0..self.round_count {
            let mut sides = vec![&mut ours];
            sides.extend(theirs.as_mut());
            sides.extend(limit.as_mut());
            let first = round % sides.len();
            sides.rotate_left(first);
            deeper(round % STACK_STEPS, &mut || {
                for side in &mut sides {
                    side.run();
                }
            });
        }
        self.rows.push(Row {
            case: case.to_owned(),
            ours: ours.median(),
            theirs: theirs.map(|theirs| theirs.median()),
            limit: limit.map(|limit| limit.median()).zip(what),
        });
    }

    /// Returns the results so far.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Says whether a case is to be measured.
    pub fn wants(&self, case: &str) -> bool {
        self.filter
            .as_ref()
            .is_none_or(|filter| case.contains(filter.as_str()))
    }
}

/// A side, how many operations fill its span, and its times so far.
struct Timed<'a> {
    side: Side<'a>,
    count: u64,
    times: Vec<f64>,
}

impl<'a> Timed<'a> {
    /// Warms the side up and finds the count.
    fn new(side: Side<'a>) -> Self {
        let mut count = 1;
        loop {
            let sample = side(count);
            if sample.elapsed >= SPAN {
                break;
            }
            // At most tenfold a step: the first runs are slower than the ones to come.
            let wanted = SPAN.as_secs_f64() / sample.elapsed.as_secs_f64().max(1e-9);
            let factor = wanted.clamp(1.2, 10.0);
            count = scale(sample.operations, factor);
        }
        Self {
            side,
            count,
            times: Vec::new(),
        }
    }

    fn run(&mut self) {
        self.times.push((self.side)(self.count).nanoseconds_each());
    }

    fn median(&self) -> f64 {
        median(&self.times)
    }
}

/// Multiplies a count, and makes it larger by at least one.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts are far below 2^53 and positive"
)]
fn scale(count: u64, factor: f64) -> u64 {
    ((count as f64 * factor) as u64).max(count + 1)
}
