// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! One thing for each of the two libraries.

/// The same fixture, made by this library and by `vm-memory`.
#[derive(Debug)]
pub struct Pair<Ours, Theirs> {
    /// This library's.
    pub ours: Ours,
    /// That of `vm-memory`.
    pub theirs: Theirs,
}

/// Makes a [`Pair`] by one function of the workloads, named without `ours` or `theirs`.
#[macro_export]
macro_rules! pair {
    ([$($function:tt)+] ($($argument:expr),* $(,)?)) => {
        $crate::pair::Pair {
            ours: $crate::ours::$($function)+($($argument),*),
            theirs: $crate::theirs::$($function)+($($argument),*),
        }
    };
}

/// Measures one workload on both halves of a [`Pair`], and against a limit if there is one.
///
/// The arguments: the runner, the case's name, the workload's path without `ours` or `theirs`, the pair and further
/// arguments in parentheses, and an `Option<Limit>`.
#[macro_export]
macro_rules! compare {
    ($runner:expr, $name:expr, [$($function:tt)+] ($pair:expr $(, $argument:expr)*), $limit:expr $(,)?) => {
        $runner.compare(
            &$name,
            &mut |count| $crate::ours::$($function)+(&$pair.ours $(, $argument)*, count),
            &mut |count| $crate::theirs::$($function)+(&$pair.theirs $(, $argument)*, count),
            $limit,
        )
    };
}
