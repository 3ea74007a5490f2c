// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What became of each policy.

use std::fmt;
use std::io;

use super::{Need, Refusal};

/// Which policy.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum PolicyKind {
    /// [`NumaPolicy`](crate::NumaPolicy).
    Numa,
    /// [`TransparentHugePages`](crate::TransparentHugePages).
    TransparentHugePages,
    /// [`PageMerging`](crate::PageMerging).
    PageMerging,
    /// [`CoreDump`](crate::CoreDump).
    CoreDump,
    /// [`OnFork`](crate::OnFork).
    OnFork,
    /// [`MemoryName`](crate::MemoryName).
    Name,
    /// [`Population`](crate::Population).
    Population,
    /// [`Locking`](crate::Locking).
    Locking,
}

impl PolicyKind {
    /// All policies, in the order in which they are applied; huge pages are collapsed right before memory is locked.
    pub const ALL: [Self; 8] = [
        Self::Numa,
        Self::TransparentHugePages,
        Self::PageMerging,
        Self::CoreDump,
        Self::OnFork,
        Self::Name,
        Self::Population,
        Self::Locking,
    ];
}

impl fmt::Display for PolicyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Numa => "NUMA",
            Self::TransparentHugePages => "transparent huge pages",
            Self::PageMerging => "page merging",
            Self::CoreDump => "core dump",
            Self::OnFork => "on fork",
            Self::Name => "name",
            Self::Population => "population",
            Self::Locking => "locking",
        })
    }
}

/// What became of a policy.
#[derive(Clone, Debug, Eq, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum Outcome {
    /// Nobody asked for one.
    NotAsked,
    /// It holds.
    Applied,
    /// It does not hold.
    Refused(Refusal),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAsked => f.pad("not asked"),
            Self::Applied => f.pad("applied"),
            Self::Refused(refusal) => match refusal.errno() {
                Some(errno) => {
                    let cause = io::Error::from_raw_os_error(errno);
                    write!(f, "refused: {refusal}: {cause}")
                }
                None => write!(f, "refused: {refusal}"),
            },
        }
    }
}

/// One policy that was asked for, and what became of it.
#[derive(Clone, Debug, Eq, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
pub struct PolicyEntry {
    kind: PolicyKind,
    value: String,
    need: Need,
    outcome: Outcome,
}

impl PolicyEntry {
    /// Returns which policy it is.
    #[must_use]
    pub fn kind(&self) -> PolicyKind {
        self.kind
    }

    /// Returns what was asked for, as it prints.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }

    /// Returns how much it was needed.
    #[must_use]
    pub fn need(&self) -> Need {
        self.need
    }

    /// Returns what became of it.
    #[must_use]
    pub fn outcome(&self) -> &Outcome {
        &self.outcome
    }
}

impl fmt::Display for PolicyEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kind,
            value,
            need,
            outcome,
        } = self;
        write!(f, "{kind} {value} ({need}): {outcome}")
    }
}

/// What became of each policy, in the order in which they were applied.
///
/// It prints one line for each, also for those that nobody asked for.
///
/// # Examples
///
/// ```
/// use guest_memory_mmap::{
///     CoreDump, MmapRegion, MmapRegionBuilder, Need, Outcome, PageMerging, Policies, PolicyKind, Refusal,
/// };
///
/// # fn main() -> Result<(), guest_memory_mmap::MmapRegionError> {
/// let policies = Policies::new()
///     .with_core_dump(CoreDump::Exclude, Need::Required)
///     .with_page_merging(PageMerging::Merge, Need::Wished);
/// let builder = MmapRegionBuilder::new(1 << 20).with_memfd("ram").with_policies(policies);
/// let region: MmapRegion = builder.build()?;
/// assert_eq!(region.policies().outcome(PolicyKind::CoreDump), &Outcome::Applied);
/// // The kernel would take it for shared memory, and merge none.
/// let refused = Outcome::Refused(Refusal::NotPrivate);
/// assert_eq!(region.policies().outcome(PolicyKind::PageMerging), &refused);
/// assert_eq!(region.policies().refused().count(), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
#[cfg_attr(feature = "serde", serde(transparent))]
pub struct PolicyReport {
    entries: Vec<PolicyEntry>,
}

impl PolicyReport {
    /// Returns what became of a policy; [`Outcome::NotAsked`] if nobody asked for one of the kind.
    #[must_use]
    pub fn outcome(&self, kind: PolicyKind) -> &Outcome {
        let mut entries = self.entries.iter();
        let entry = entries.find(|entry| entry.kind == kind);
        entry.map_or(&Outcome::NotAsked, |entry| &entry.outcome)
    }

    /// Returns the policies that were asked for, in the order in which they were applied.
    pub fn iter(&self) -> std::slice::Iter<'_, PolicyEntry> {
        self.entries.iter()
    }

    /// Returns those that do not hold.
    pub fn refused(&self) -> impl Iterator<Item = &PolicyEntry> {
        self.iter()
            .filter(|entry| matches!(entry.outcome, Outcome::Refused(_)))
    }

    /// Notes what became of a policy.
    pub(crate) fn record(&mut self, kind: PolicyKind, value: String, need: Need, outcome: Outcome) {
        self.entries.push(PolicyEntry {
            kind,
            value,
            need,
            outcome,
        });
    }
}

impl<'a> IntoIterator for &'a PolicyReport {
    type Item = &'a PolicyEntry;
    type IntoIter = std::slice::Iter<'a, PolicyEntry>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for PolicyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for entry in self {
            writeln!(f, "{entry}")?;
        }
        for kind in PolicyKind::ALL {
            if self.outcome(kind) == &Outcome::NotAsked {
                writeln!(f, "{kind}: {}", Outcome::NotAsked)?;
            }
        }
        Ok(())
    }
}
