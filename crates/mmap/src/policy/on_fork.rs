// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a forked child has in the place of memory.

use std::fmt;

use super::page_source::PageSource;
use super::{Policy, PolicyKind, Refusal};
use crate::extent::Extent;
use crate::sys::{self, Advice};

/// What a forked child has in the place of memory.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum OnFork {
    /// The memory: shared memory itself, of private memory a copy.
    Inherit,
    /// A hole: an access of the child's is SIGSEGV. No copy is made of private memory, not even of its page tables,
    /// and devices that write to pinned pages go on writing to the parent's.
    Exclude,
    /// Zeros. Of private memory without a file and of small pages only.
    Wipe,
}

impl Policy for OnFork {
    const KIND: PolicyKind = PolicyKind::OnFork;

    fn apply(&self, extent: Extent<'_>) -> Result<(), Refusal> {
        let is_anonymous = PageSource::of(extent)? == PageSource::Anonymous;
        // Whether the child has the memory and whether it has the contents are two settings.
        let advices: &[Advice] = match self {
            Self::Inherit => &[Advice::DoFork, Advice::KeepOnFork],
            Self::Exclude => &[Advice::DontFork],
            Self::Wipe if !is_anonymous => return Err(Refusal::NotPrivateAnonymous),
            Self::Wipe => &[Advice::DoFork, Advice::WipeOnFork],
        };
        for advice in advices {
            sys::advise(extent, *advice).map_err(|error| {
                Refusal::kernel(&error, "memory of a device is not inherited, nor wiped")
            })?;
        }
        Ok(())
    }
}

impl fmt::Display for OnFork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Inherit => "inherit",
            Self::Exclude => "exclude",
            Self::Wipe => "wipe",
        })
    }
}
