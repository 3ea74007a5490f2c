// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! One region of a guest, as data.

use guest_memory_bitmap::NewBitmap;
use guest_memory_core::GuestAddress;

use super::GuestMemoryBuildError;
use crate::{
    Alignment, Backing, GuestRegionMmap, MmapRegionBuilder, MmapRegionError, Policies, Protection,
    RegionKind,
};

/// Describes one region: where the guest sees it, what it is made of, how it is treated.
///
/// Without further calls it is RAM of private anonymous memory, readable and writable, between guard pages.
///
/// # Examples
///
/// ```
/// use guest_memory_core::GuestAddress;
/// use guest_memory_mmap::{MmapRegion, Protection, RegionKind, RegionSpec};
///
/// # fn main() -> Result<(), guest_memory_mmap::MmapRegionError> {
/// let firmware = RegionSpec::new("firmware", GuestAddress(0xfff0_0000), 1 << 20)
///     .with_kind(RegionKind::Rom)
///     .with_protection(Protection::ReadOnly);
/// assert!(firmware.has_guard_pages());
/// // The mapping alone, for who does not want a whole guest.
/// let mapping: MmapRegion = firmware.region_builder().build()?;
/// assert_eq!(mapping.size(), 1 << 20);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "kebab-case", deny_unknown_fields)
)]
pub struct RegionSpec {
    label: String,
    start: u64,
    size: usize,
    #[cfg_attr(feature = "serde", serde(default))]
    kind: RegionKind,
    #[cfg_attr(feature = "serde", serde(default))]
    backing: Backing,
    #[cfg_attr(feature = "serde", serde(default))]
    protection: Protection,
    #[cfg_attr(feature = "serde", serde(default))]
    changeable_protection: bool,
    #[cfg_attr(feature = "serde", serde(default = "with_guard_pages"))]
    guard_pages: bool,
    #[cfg_attr(feature = "serde", serde(default))]
    alignment: Option<Alignment>,
    #[cfg_attr(feature = "serde", serde(default))]
    policies: Policies,
}

/// What a configuration means that says nothing about guard pages.
#[cfg(feature = "serde")]
fn with_guard_pages() -> bool {
    true
}

impl RegionSpec {
    /// Describes `size` bytes at a guest address; errors, plans and tables call them by the label, which no other region may have.
    #[must_use]
    pub fn new(label: impl Into<String>, start: GuestAddress, size: usize) -> Self {
        Self {
            label: label.into(),
            start: start.0,
            size,
            kind: RegionKind::default(),
            backing: Backing::default(),
            protection: Protection::default(),
            changeable_protection: false,
            guard_pages: true,
            alignment: None,
            policies: Policies::new(),
        }
    }

    /// Sets what the region is for.
    #[must_use]
    pub fn with_kind(self, kind: RegionKind) -> Self {
        Self { kind, ..self }
    }

    /// Sets where the memory comes from.
    #[must_use]
    pub fn with_backing(self, backing: Backing) -> Self {
        Self { backing, ..self }
    }

    /// Sets what may be done with the memory.
    #[must_use]
    pub fn with_protection(self, protection: Protection) -> Self {
        Self { protection, ..self }
    }

    /// Lets the protection change while the region is in use; see [`MmapRegionBuilder::with_changeable_protection`].
    #[must_use]
    pub fn with_changeable_protection(self) -> Self {
        Self {
            changeable_protection: true,
            ..self
        }
    }

    /// Leaves out the guard pages; see [`MmapRegionBuilder::without_guard_pages`].
    #[must_use]
    pub fn without_guard_pages(self) -> Self {
        Self {
            guard_pages: false,
            ..self
        }
    }

    /// Sets the least alignment in this process; see [`MmapRegionBuilder::with_alignment`].
    #[must_use]
    pub fn with_alignment(self, alignment: Alignment) -> Self {
        Self {
            alignment: Some(alignment),
            ..self
        }
    }

    /// Sets how the system is to treat the memory.
    #[must_use]
    pub fn with_policies(self, policies: Policies) -> Self {
        Self { policies, ..self }
    }

    /// Returns the label.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Returns the first guest address.
    #[must_use]
    pub fn start(&self) -> GuestAddress {
        GuestAddress(self.start)
    }

    /// Returns the size in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size
    }

    /// Returns what the region is for.
    #[must_use]
    pub fn kind(&self) -> RegionKind {
        self.kind
    }

    /// Returns where the memory comes from.
    #[must_use]
    pub fn backing(&self) -> &Backing {
        &self.backing
    }

    /// Returns what may be done with the memory.
    #[must_use]
    pub fn protection(&self) -> Protection {
        self.protection
    }

    /// Says whether the protection can change while the region is in use.
    #[must_use]
    pub fn has_changeable_protection(&self) -> bool {
        self.changeable_protection
    }

    /// Returns the least alignment in this process, if one was set.
    #[must_use]
    pub fn alignment(&self) -> Option<Alignment> {
        self.alignment
    }

    /// Says whether guard pages stand around the memory.
    #[must_use]
    pub fn has_guard_pages(&self) -> bool {
        self.guard_pages
    }

    /// Returns how the system is to treat the memory.
    #[must_use]
    pub fn policies(&self) -> &Policies {
        &self.policies
    }

    /// Returns the last guest address, or nothing if the region is empty or reaches past the end of all addresses.
    pub(super) fn last(&self) -> Option<u64> {
        let last_offset = u64::try_from(self.size.checked_sub(1)?).ok()?;
        self.start.checked_add(last_offset)
    }

    /// Returns a builder of the mapping that is described, for callers who want to add something.
    #[must_use]
    pub fn region_builder<B: NewBitmap>(&self) -> MmapRegionBuilder<B> {
        let mut builder = MmapRegionBuilder::new(self.size)
            .with_backing(self.backing.clone())
            .with_protection(self.protection)
            .with_policies(self.policies.clone());
        if self.changeable_protection {
            builder = builder.with_changeable_protection();
        }
        if !self.guard_pages {
            builder = builder.without_guard_pages();
        }
        if let Some(alignment) = self.alignment {
            builder = builder.with_alignment(alignment);
        }
        builder
    }

    /// Maps the region and applies its policies.
    pub(super) fn build<B: NewBitmap>(&self) -> Result<GuestRegionMmap<B>, GuestMemoryBuildError> {
        let failed = |source| GuestMemoryBuildError::Region {
            region: self.label.clone(),
            source: Box::new(source),
        };
        let mapping = self.region_builder().build().map_err(failed)?;
        // The plan has looked at the end; without a plan it is too large for where it is.
        let region = GuestRegionMmap::new(mapping, self.start())
            .ok_or_else(|| failed(MmapRegionError::TooLarge { size: self.size }))?;
        Ok(region.with_kind(self.kind).with_label(self.label.as_str()))
    }
}
