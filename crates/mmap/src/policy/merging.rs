// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Merging of pages with equal contents (KSM).

use std::fmt;
use std::io;

use super::page_source::PageSource;
use super::{Policy, PolicyKind, Refusal};
use crate::Sharing;
use crate::extent::Extent;
use crate::sys::{self, Advice};

/// Whether the kernel may merge pages of equal contents (KSM), also with those of other guests.
///
/// It merges private memory only, and only while `/sys/kernel/mm/ksm/run` says so; the first write to a merged
/// page copies it. Guests can measure that and learn what others have in memory.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum PageMerging {
    /// It may.
    Merge,
    /// It may not.
    Never,
}

impl Policy for PageMerging {
    const KIND: PolicyKind = PolicyKind::PageMerging;

    fn apply(&self, extent: Extent<'_>) -> Result<(), Refusal> {
        let advice = match self {
            Self::Never => Advice::Unmergeable,
            // The kernel would say yes and do nothing.
            Self::Merge if extent.details().sharing == Sharing::Shared => {
                return Err(Refusal::NotPrivate);
            }
            Self::Merge if PageSource::of(extent)? == PageSource::HugePages => {
                return Err(Refusal::MemoryOfHugePages);
            }
            Self::Merge => Advice::Mergeable,
        };
        match sys::advise(extent, advice) {
            // A kernel that does not know the advice merges nothing.
            Err(error) if *self == Self::Never && lacks_it(&error) => Ok(()),
            result => result.map_err(|error| self.explain(&error)),
        }
    }
}

impl PageMerging {
    fn explain(self, error: &io::Error) -> Refusal {
        let hint = match lacks_it(error) {
            true => "needs a kernel with CONFIG_KSM",
            false => "madvise failed",
        };
        Refusal::kernel(error, hint)
    }
}

fn lacks_it(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EINVAL)
}

impl fmt::Display for PageMerging {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Merge => "merge",
            Self::Never => "never",
        })
    }
}
