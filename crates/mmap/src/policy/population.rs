// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Having pages there before the guest asks for them.

use std::error::Error;
use std::fmt;
use std::io;
use std::num::NonZeroUsize;

use super::{Policy, PolicyKind, Refusal};
use crate::Prefault;
use crate::extent::Extent;
use crate::prefault::prefault_extent;

/// All pages are brought in when the region is built, by several threads.
///
/// [`MmapRegion::prefault`](crate::MmapRegion::prefault) does the same later, with a progress and a way to call it off.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
pub struct Population {
    /// How many threads do it.
    pub threads: NonZeroUsize,
}

impl Policy for Population {
    const KIND: PolicyKind = PolicyKind::Population;

    fn apply(&self, extent: Extent<'_>) -> Result<(), Refusal> {
        let how = Prefault::new().with_threads(self.threads);
        match prefault_extent(extent, &how) {
            Ok(_) => Ok(()),
            Err(error) => {
                let cause = error
                    .source()
                    .and_then(<dyn Error>::downcast_ref::<io::Error>);
                Err(Refusal::Population {
                    errno: cause.and_then(io::Error::raw_os_error),
                    reason: error.to_string(),
                })
            }
        }
    }
}

impl fmt::Display for Population {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "by {} threads", self.threads)
    }
}
