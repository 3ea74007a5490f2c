// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a region is for.

use std::fmt;

/// What a guest's region is for. It is a note to the monitor: the library treats all alike, and what may be written is
/// up to the mapping's protection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "kebab-case")
)]
#[non_exhaustive]
pub enum RegionKind {
    /// Memory of the guest's, which a firmware tells it of.
    #[default]
    Ram,
    /// Memory that the guest only reads, such as a firmware.
    Rom,
    /// Memory that outlives the guest, such as a virtual NVDIMM.
    Persistent,
    /// A device's own memory that the guest maps, such as a frame buffer or a DAX window.
    DeviceWindow,
}

impl fmt::Display for RegionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ram => "RAM",
            Self::Rom => "ROM",
            Self::Persistent => "persistent",
            Self::DeviceWindow => "device window",
        })
    }
}
