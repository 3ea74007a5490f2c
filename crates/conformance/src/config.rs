// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! How a suite runs: number of cases, page size, granule; and the runner itself.

use std::any::Any;
use std::fmt::Debug;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};

use proptest::strategy::Strategy;
use proptest::test_runner::{Config as RunnerConfig, TestCaseError, TestError, TestRunner};

/// Length in bytes of the subject on which a page size is measured.
const MEASURED_LEN: usize = 1 << 20;

/// How the subject tracks dirty pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pages {
    /// It does; the suite marks one byte and looks how far the mark reaches.
    Measured,
    /// It does, in pages of so many bytes.
    OfBytes(NonZeroUsize),
    /// It does not: nothing ever reads as dirty.
    Untracked,
}

/// Settings of a suite.
///
/// The number of cases is `PROPTEST_CASES` from the environment, or 256; `PROPTEST_RNG_SEED`
/// makes a run repeatable.
///
/// # Examples
///
/// ```
/// use guest_memory_conformance::Config;
///
/// // Few cases, and nothing is tracked: `()` is a bitmap that records nothing.
/// let config = Config::default().cases(16).untracked();
/// guest_memory_conformance::bitmap::check_with(config, |_len| ());
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Config {
    cases: u32,
    pages: Pages,
    granule: NonZeroUsize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            cases: RunnerConfig::default().cases,
            pages: Pages::Measured,
            granule: NonZeroUsize::MIN,
        }
    }
}

impl Config {
    /// Sets how many scripts are run.
    #[must_use]
    pub fn cases(mut self, cases: u32) -> Self {
        self.cases = cases;
        self
    }

    /// Says how the subject tracks dirty pages, instead of having it measured.
    #[must_use]
    pub fn pages(mut self, pages: Pages) -> Self {
        self.pages = pages;
        self
    }

    /// Says that the subject tracks nothing, which without this word counts as a fault.
    #[must_use]
    pub fn untracked(self) -> Self {
        self.pages(Pages::Untracked)
    }

    /// Makes all starts and lengths that are handed to the subject's maker multiples of `granule`
    /// bytes, for subjects that come in whole pages only.
    #[must_use]
    pub fn granule(mut self, granule: NonZeroUsize) -> Self {
        self.granule = granule;
        self
    }

    /// Rounds a wanted length up to what the subject's maker takes.
    pub(crate) fn round_up(&self, len: usize) -> usize {
        len.next_multiple_of(self.granule.get())
    }

    /// Rounds a wanted start up to what the subject's maker takes.
    pub(crate) fn round_up_address(&self, address: u64) -> u64 {
        address.next_multiple_of(self.granule.get() as u64)
    }

    /// Settles how the subject tracks, measuring it if so asked: `probe` gets a length, marks the
    /// first byte of a new subject of that length and returns how it answers at an offset.
    pub(crate) fn settle<P, D>(&self, suite: &str, probe: P) -> Tracking
    where
        P: FnOnce(usize) -> D,
        D: Fn(usize) -> bool,
    {
        let page_size = match self.pages {
            Pages::Untracked => None,
            Pages::OfBytes(page_size) => Some(page_size),
            Pages::Measured => {
                let len = self.round_up(MEASURED_LEN);
                let dirty_at = probe(len);
                assert!(
                    dirty_at(0),
                    "{suite} conformance: the first byte was marked and does not read as dirty, as was expected; \
                     if nothing is to be tracked, say so with Config::untracked"
                );
                let page_size = (1..len).find(|&offset| !dirty_at(offset)).unwrap_or(len);
                NonZeroUsize::new(page_size)
            }
        };
        Tracking { page_size }
    }

    /// Runs `check` on scripts made by `strategy` and panics with the shortest one that fails.
    pub(crate) fn run<S, C>(&self, suite: &str, strategy: &S, check: C)
    where
        S: Strategy,
        S::Value: Debug,
        C: Fn(&S::Value) -> Result<(), String>,
    {
        let settings = RunnerConfig {
            cases: self.cases,
            failure_persistence: None,
            max_shrink_iters: 4096,
            ..RunnerConfig::default()
        };
        let outcome = TestRunner::new(settings).run(strategy, |script| {
            check(&script).map_err(TestCaseError::fail)
        });
        match outcome {
            Ok(()) => {}
            Err(TestError::Fail(reason, script)) => panic!(
                "{suite} conformance: {reason}\nthe shortest script that shows it: {script:#?}"
            ),
            Err(TestError::Abort(reason)) => panic!("{suite} conformance: gave up: {reason}"),
        }
    }
}

/// What is known about the subject's dirty tracking once a suite starts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tracking {
    /// Page size in bytes; `None` when nothing is tracked.
    pub(crate) page_size: Option<NonZeroUsize>,
}

impl Tracking {
    /// Returns the page size, or a small stand-in that keeps untracked subjects small.
    pub(crate) fn step(&self) -> usize {
        self.page_size.map_or(64, Into::into)
    }
}

/// Runs one named step of a script: its refusal, or its panic, comes back with its name.
pub(crate) fn guarded<T>(
    step: &dyn Debug,
    action: impl FnOnce() -> Result<T, String>,
) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(action)) {
        Ok(result) => result.map_err(|reason| format!("{step:?}: {reason}")),
        Err(payload) => Err(format!(
            "{step:?}: panicked: {}; expected it to return",
            text_of(&*payload)
        )),
    }
}

fn text_of(payload: &(dyn Any + Send)) -> &str {
    match (
        payload.downcast_ref::<&str>(),
        payload.downcast_ref::<String>(),
    ) {
        (Some(text), _) => text,
        (None, Some(text)) => text,
        (None, None) => "(no message)",
    }
}

/// Refuses unless the bytes are equal; `what` names them, `start` is the offset of the first one.
pub(crate) fn expect_bytes(
    what: &str,
    start: usize,
    found: &[u8],
    expected: &[u8],
) -> Result<(), String> {
    if found == expected {
        return Ok(());
    }
    let common = found.len().min(expected.len());
    Err(match (0..common).find(|&at| found[at] != expected[at]) {
        Some(at) => format!(
            "{what}: the byte at offset {:#x} is {:#04x}, expected {:#04x}",
            start + at,
            found[at],
            expected[at]
        ),
        None => format!("{what}: {} bytes, expected {}", found.len(), expected.len()),
    })
}

/// Refuses unless the two are equal; `what` names the value.
pub(crate) fn expect_eq<T: PartialEq + Debug>(
    what: &str,
    found: T,
    expected: T,
) -> Result<(), String> {
    if found == expected {
        Ok(())
    } else {
        Err(format!("{what} is {found:?}, expected {expected:?}"))
    }
}
