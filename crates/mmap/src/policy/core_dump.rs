// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Whether memory is part of core dumps.

use std::fmt;

use super::{Policy, PolicyKind, Refusal};
use crate::extent::Extent;
use crate::sys::{self, Advice};

/// Whether memory is part of this process's core dumps.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum CoreDump {
    /// It is, as far as `/proc/self/coredump_filter` lets memory of its kind.
    Include,
    /// It is not: a dump is as small as the monitor, and tells nothing of the guest.
    Exclude,
}

impl Policy for CoreDump {
    const KIND: PolicyKind = PolicyKind::CoreDump;

    fn apply(&self, extent: Extent<'_>) -> Result<(), Refusal> {
        let advice = match self {
            Self::Include => Advice::DoDump,
            Self::Exclude => Advice::DontDump,
        };
        sys::advise(extent, advice)
            .map_err(|error| Refusal::kernel(&error, "memory of a device is not dumped"))
    }
}

impl fmt::Display for CoreDump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Include => "include",
            Self::Exclude => "exclude",
        })
    }
}
