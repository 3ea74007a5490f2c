// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Where the two libraries may differ, and why; `docs/migration.md` tells users the same. Whatever no rule here allows is a
//! fault.

use std::fmt;
use std::io::ErrorKind;

use super::transcript::{
    Access, Answer, Failure, Look, Mark, Op, Progress, RegionState, Seen, Sink, Source,
};

/// An operation and what both made of it.
pub(super) struct Case<'a> {
    pub(super) operation: &'a Op,
    /// What both memories held before.
    pub(super) before: &'a [RegionState],
    pub(super) ours: Outcome,
    pub(super) theirs: Outcome,
}

/// What an operation answered and left.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) seen: Seen,
    pub(super) after: Vec<RegionState>,
}

impl Case<'_> {
    /// The call of `Bytes` that the operation is.
    fn access(&self) -> Option<&Access> {
        match self.operation {
            Op::Memory(_, access) | Op::Region(_, _, access) | Op::Slice(_, _, _, access) => {
                Some(access)
            }
            _ => None,
        }
    }

    /// The bytes that are asked of a stream, or offered to it.
    fn stream_count(&self) -> Option<usize> {
        match self.access()? {
            Access::ReadVolatileFrom(_, count)
            | Access::ReadExactVolatileFrom(_, count)
            | Access::WriteVolatileTo(_, count)
            | Access::WriteAllVolatileTo(_, count) => Some(*count),
            _ => None,
        }
    }

    /// Tells whether it is an access that has a stream move all bytes or fail.
    fn is_exact(&self) -> bool {
        matches!(
            self.access(),
            Some(Access::ReadExactVolatileFrom(..) | Access::WriteAllVolatileTo(..))
        )
    }

    /// Tells whether the stream is one that may move less than it could.
    fn has_toy(&self) -> bool {
        match self.access() {
            Some(
                Access::ReadVolatileFrom(source, _) | Access::ReadExactVolatileFrom(source, _),
            ) => matches!(source, Source::Toy(..)),
            Some(Access::WriteVolatileTo(sink, _) | Access::WriteAllVolatileTo(sink, _)) => {
                matches!(sink, Sink::Toy(_))
            }
            _ => false,
        }
    }

    /// Tells whether 0.18 passed on a failure of the stream, of one of these kinds.
    fn theirs_failed_with<const N: usize>(&self, kinds: [ErrorKind; N]) -> bool {
        match self.theirs.seen.answer {
            Answer::Failed(Failure::Stream { completed: 0, kind }) => kinds.contains(&kind),
            _ => false,
        }
    }

    /// Tells whether all is the same but the answer.
    fn is_alike_otherwise(&self) -> bool {
        self.ours.seen.data == self.theirs.seen.data && self.ours.after == self.theirs.after
    }
}

impl fmt::Debug for Case<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "the libraries differ in {:x?}", self.operation)?;
        writeln!(f, "ours: {:x?}", self.ours.seen)?;
        writeln!(f, "theirs: {:x?}", self.theirs.seen)?;
        if self.ours.after != self.theirs.after {
            writeln!(f, "before: {:#x?}", self.before)?;
            writeln!(f, "ours after: {:#x?}", self.ours.after)?;
            writeln!(f, "theirs after: {:#x?}", self.theirs.after)?;
        }
        Ok(())
    }
}

/// A difference that is known.
pub(super) struct Rule {
    pub(super) name: &'static str,
    /// Why it is right that they differ.
    pub(super) reason: &'static str,
    pub(super) allows: fn(&Case<'_>) -> bool,
}

/// All of them. An operation is held to the first one that allows it.
pub(super) const RULES: [Rule; 12] = [
    Rule {
        name: "an error names its cause",
        reason: "0.18 folds all that goes wrong behind a region into `InvalidBackendAddress`",
        allows: |case| {
            matches!(case.ours.seen.answer, Answer::Failed(_))
                && case.theirs.seen.answer == Answer::Failed(Failure::Backend)
                && case.is_alike_otherwise()
        },
    },
    Rule {
        name: "nothing can be accessed anywhere",
        reason: "0.18 refuses some accesses of no bytes outside of memory, and calls back for none",
        allows: |case| {
            let is_nothing = match case.operation {
                Op::Look(_, Look::TryAccess(count, _)) => *count == 0,
                _ => case.stream_count() == Some(0),
            };
            is_nothing
                && matches!(case.ours.seen.answer, Answer::Done | Answer::Count(0))
                && case.ours.after == case.theirs.after
        },
    },
    Rule {
        name: "the end of a stream is told from a failure",
        reason: "0.18 makes an error of it, also of a sink that is full, and does not say how far it came",
        allows: |case| {
            let is_end = case.theirs_failed_with([ErrorKind::WriteZero, ErrorKind::UnexpectedEof]);
            is_end
                && match case.ours.seen.answer {
                    Answer::Count(_) => !case.is_exact(),
                    Answer::Failed(Failure::Partial { .. }) => case.is_exact(),
                    _ => false,
                }
        },
    },
    Rule {
        name: "a failure of a stream says how far it came",
        reason: "0.18 forgets the bytes that were moved before; where fewer may be moved they are a short count here",
        allows: |case| {
            let is_end = case.theirs_failed_with([ErrorKind::UnexpectedEof, ErrorKind::WriteZero]);
            let is_failure = case.theirs_failed_with([ErrorKind::BrokenPipe]);
            match case.ours.seen.answer {
                Answer::Count(count) => is_failure && !case.is_exact() && count > 0,
                Answer::Failed(Failure::Stream { completed, kind }) => {
                    (is_failure || is_end)
                        && case.is_exact()
                        && completed > 0
                        && case.theirs_failed_with([kind])
                }
                _ => false,
            }
        },
    },
    Rule {
        name: "a stream fills a region to its end",
        reason: "0.18 moves nothing if a region does not have it all",
        allows: |case| {
            matches!(case.operation, Op::Region(..))
                && case.is_exact()
                && case.theirs.seen.answer == Answer::Failed(Failure::Backend)
                && case.theirs.after == case.before
                && matches!(
                    case.ours.seen.answer,
                    Answer::Failed(Failure::Partial { .. } | Failure::Stream { .. })
                )
        },
    },
    Rule {
        name: "sums of offsets do not wrap",
        reason: "0.18 marks the first pages when a slice of a bitmap is marked past the top of the offsets",
        allows: |case| {
            let Op::Bitmap(_, Mark::ThroughSlice(base, offset, _)) = case.operation else {
                return false;
            };
            base.checked_add(*offset).is_none() && case.ours.after == case.before
        },
    },
    Rule {
        name: "past the end is out of bounds",
        reason: "0.18 says of some places past the end of a slice that a sum or a size is too large, where it is not",
        allows: |case| {
            matches!(
                case.ours.seen.answer,
                Answer::Failed(Failure::OutOfBounds | Failure::Overflow)
            ) && matches!(
                case.theirs.seen.answer,
                Answer::Failed(Failure::Overflow | Failure::TooBig)
            ) && case.is_alike_otherwise()
        },
    },
    Rule {
        name: "a callback that goes too far is refused",
        reason: "0.18 believes it as long as the access as a whole is not exceeded",
        allows: |case| {
            matches!(
                case.operation,
                Op::Look(_, Look::TryAccess(_, Progress::More))
            ) && case.ours.seen.answer == Answer::Failed(Failure::CallbackOutOfRange)
        },
    },
    Rule {
        name: "a short count of a stream ends the access",
        reason: "0.18 goes on, in the next region even at its start, so that bytes are in the wrong place",
        allows: |case| {
            case.has_toy()
                && !case.is_exact()
                && matches!(case.ours.seen.answer, Answer::Count(_))
                && matches!(case.theirs.seen.answer, Answer::Count(_))
        },
    },
    Rule {
        name: "an exact access asks a stream again",
        reason: "0.18 gives up after a short count, or goes on in the next region, where the bytes do not belong",
        allows: |case| {
            let is_more = |theirs: usize| match case.ours.seen.answer {
                Answer::Done => true,
                Answer::Failed(
                    Failure::Partial { completed, .. } | Failure::Stream { completed, .. },
                ) => completed >= theirs,
                _ => false,
            };
            case.has_toy()
                && case.is_exact()
                && matches!(
                    case.theirs.seen.answer,
                    Answer::Failed(Failure::Partial { completed, .. }) if is_more(completed)
                )
        },
    },
    Rule {
        name: "a stream begins where there is a byte",
        reason: "0.18 moves nothing, without an error, right behind the end of a region or slice",
        allows: |case| {
            case.stream_count().is_some_and(|count| count > 0)
                && !case.is_exact()
                && case.theirs.seen.answer == Answer::Count(0)
                && matches!(
                    case.ours.seen.answer,
                    Answer::Failed(Failure::NoMemory(_) | Failure::OutOfBounds)
                )
                && case.is_alike_otherwise()
        },
    },
    Rule {
        name: "a region may end where addresses do",
        reason: "0.18 refuses a region whose end is 2^64",
        allows: |case| {
            let is_at_top =
                |&(start, len): &(u64, usize)| u128::from(start) + len as u128 == 1 << 64;
            let has_one = match case.operation {
                Op::Insert(start, len) => is_at_top(&(*start, *len)),
                Op::FromRanges(ranges) => ranges.iter().any(is_at_top),
                _ => false,
            };
            has_one && case.theirs.seen.answer == Answer::Failed(Failure::NotMade)
        },
    },
];
