// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A region as the fuzzer makes it, and the description that it stands for.

use std::num::NonZeroUsize;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use arbitrary::Arbitrary;
use guest_memory_core::{FileOffset, GuestAddress};
use guest_memory_mmap::{
    Alignment, Backing, CoreDump, Locking, MemoryName, MmapRegion, MmapRegionBuilder, Need,
    NumaNode, NumaPolicy, OnFork, PageMerging, Policies, PolicyKind, Population, Protection,
    RegionKind, RegionSpec, Seals, Sharing, ShmObject, TransparentHugePages,
};

/// Length of the file that regions can be made of: some pages and a piece, whatever the size of a page.
pub(super) const FILE_BYTES: usize = (256 << 10) + 100;

/// A node that no machine has.
pub(super) const MISSING_NODE: NumaNode = NumaNode(1000);

/// Multiples of it are whole pages, whatever the size of a page.
pub(super) const WHOLE_PAGES: u64 = 64 << 10;

/// Regions of few bytes, so that many fit into one guest.
const UNIT_BYTES: usize = 1 << 10;

/// What the descriptions of one guest can name.
pub(super) struct Files {
    /// A memory file, held open.
    file: FileOffset,
    /// Names of shared memory objects begin so, and nobody else's.
    shm_prefix: String,
}

impl Files {
    pub(super) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let backing = Backing::Memfd {
            name: "fuzz".to_owned(),
            seals: Seals::NONE,
            huge_pages: None,
        };
        let region: MmapRegion = MmapRegionBuilder::new(FILE_BYTES)
            .with_backing(backing)
            .build()
            .expect("a small memory file");
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Self {
            file: region.file_offset().expect("a memory file").clone(),
            shm_prefix: format!("/guest-memory-fuzz-{}-{count}", std::process::id()),
        }
    }

    /// Returns a path of the file.
    fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.file.file().as_raw_fd()).into()
    }
}

/// A region as the fuzzer makes it.
#[derive(Arbitrary, Debug)]
pub(super) struct RawRegion {
    label: RawLabel,
    start: RawStart,
    size: RawSize,
    kind: RawKind,
    backing: RawBacking,
    protection: RawProtection,
    is_protection_changeable: bool,
    has_guard_pages: bool,
    /// Logarithm of the alignment.
    alignment: Option<u8>,
    policies: [Option<RawPolicy>; 2],
}

/// Few, so that they meet.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum RawLabel {
    Empty,
    Number(u8),
    NotAscii,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum RawStart {
    /// In units, so that regions meet.
    Low(u8),
    BelowTop(u16),
    Any(u64),
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum RawSize {
    Units {
        count: u8,
        more: u8,
    },
    Zero,
    /// Up to the end of all addresses, or a little less or more.
    ToTop {
        less: i8,
    },
    Any(u64),
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum RawKind {
    Ram,
    Rom,
    Persistent,
    DeviceWindow,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum RawProtection {
    NoAccess,
    ReadOnly,
    ReadWrite,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum RawBacking {
    Anonymous {
        is_shared: bool,
    },
    Memfd {
        name: RawName,
        seals: [bool; 3],
    },
    File {
        offset: RawOffset,
        is_shared: bool,
        grow: bool,
    },
    MissingFile {
        grow: bool,
    },
    Shm {
        name: RawShmName,
        is_made: bool,
    },
    MissingDax {
        offset: u64,
    },
}

/// Lengths around the longest that is taken, and a character that no name has.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum RawName {
    Length(u8),
    Longer(u8),
    WithZero,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum RawShmName {
    Valid,
    Length(u16),
    WithoutSlash,
    OnlySlash,
    TwoSlashes,
    WithZero,
}

/// Whole pages or none, whatever the size of a page.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum RawOffset {
    WholePages(u8),
    WholePagesBelowTop(u8),
    Odd(u64),
}

/// A policy, and whether it is required.
#[derive(Arbitrary, Clone, Copy, Debug)]
struct RawPolicy {
    value: RawPolicyValue,
    is_required: bool,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum RawPolicyValue {
    NumaLocal,
    NumaPreferred { is_missing: bool },
    NumaBind { has_node: bool, has_missing: bool },
    NumaInterleave { has_node: bool, has_missing: bool },
    HugePages { is_advised: bool },
    Merging { is_merged: bool },
    CoreDump { is_included: bool },
    OnFork(RawOnFork),
    Name,
    Population { threads: NonZeroUsize },
    Locking { is_now: bool },
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum RawOnFork {
    Inherit,
    Exclude,
    Wipe,
}

impl RawRegion {
    /// Returns the description.
    pub(super) fn spec(&self, files: &Files) -> RegionSpec {
        let label = match self.label {
            RawLabel::Empty => String::new(),
            RawLabel::Number(number) => format!("region {number}"),
            RawLabel::NotAscii => "r\u{e9}gion".to_owned(),
        };
        let start = self.start.address();
        let mut spec = RegionSpec::new(label, GuestAddress(start), self.size.bytes(start))
            .with_kind(match self.kind {
                RawKind::Ram => RegionKind::Ram,
                RawKind::Rom => RegionKind::Rom,
                RawKind::Persistent => RegionKind::Persistent,
                RawKind::DeviceWindow => RegionKind::DeviceWindow,
            })
            .with_backing(self.backing.backing(files))
            .with_protection(match self.protection {
                RawProtection::NoAccess => Protection::NoAccess,
                RawProtection::ReadOnly => Protection::ReadOnly,
                RawProtection::ReadWrite => Protection::ReadWrite,
            })
            .with_policies(policies(&self.policies));
        if self.is_protection_changeable {
            spec = spec.with_changeable_protection();
        }
        if !self.has_guard_pages {
            spec = spec.without_guard_pages();
        }
        if let Some(alignment) = self.alignment {
            let bytes = 1_usize << (u32::from(alignment) % usize::BITS);
            spec = spec.with_alignment(Alignment::new(bytes).expect("a power of two"));
        }
        spec
    }
}

impl RawStart {
    fn address(self) -> u64 {
        match self {
            RawStart::Low(units) => u64::from(units) * (UNIT_BYTES as u64),
            RawStart::BelowTop(less) => u64::MAX - u64::from(less),
            RawStart::Any(address) => address,
        }
    }
}

impl RawSize {
    fn bytes(self, start: u64) -> usize {
        let bytes = match self {
            RawSize::Units { count, more } => {
                return usize::from(count) * UNIT_BYTES + usize::from(more);
            }
            RawSize::Zero => 0,
            RawSize::ToTop { less } => 0_u64.wrapping_sub(start).wrapping_sub_signed(less.into()),
            RawSize::Any(bytes) => bytes,
        };
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }
}

impl RawBacking {
    fn backing(self, files: &Files) -> Backing {
        match self {
            RawBacking::Anonymous { is_shared } => Backing::Anonymous {
                sharing: sharing(is_shared),
                huge_pages: None,
            },
            RawBacking::Memfd { name, seals } => {
                let [shrink, grow, seal] = seals;
                Backing::Memfd {
                    name: match name {
                        RawName::Length(length) => "n".repeat(length.into()),
                        RawName::Longer(more) => "n".repeat(240 + usize::from(more % 32)),
                        RawName::WithZero => "n\0".to_owned(),
                    },
                    seals: Seals { shrink, grow, seal },
                    huge_pages: None,
                }
            }
            RawBacking::File {
                offset,
                is_shared,
                grow,
            } => Backing::File {
                path: files.path(),
                offset: match offset {
                    RawOffset::WholePages(count) => u64::from(count) * WHOLE_PAGES,
                    RawOffset::WholePagesBelowTop(count) => {
                        let top = 1_u64 << if grow { 63 } else { 32 };
                        top - (u64::from(count) + 1) * WHOLE_PAGES
                    }
                    RawOffset::Odd(offset) => offset | 1,
                },
                sharing: sharing(is_shared),
                grow,
            },
            RawBacking::MissingFile { grow } => Backing::File {
                path: "/proc/self/no such directory/file".into(),
                offset: 0,
                sharing: Sharing::Shared,
                grow,
            },
            RawBacking::Shm { name, is_made } => Backing::Shm {
                name: name.name(&files.shm_prefix),
                // One that keeps its name would outlive the script.
                object: match is_made {
                    true => ShmObject::CreateUnlinked,
                    false => ShmObject::Open,
                },
            },
            RawBacking::MissingDax { offset } => Backing::Dax {
                path: "/proc/self/no such device".into(),
                offset,
            },
        }
    }
}

impl RawShmName {
    fn name(self, prefix: &str) -> String {
        match self {
            RawShmName::Valid => prefix.to_owned(),
            RawShmName::Length(length) => {
                format!("{prefix}{}", "n".repeat(usize::from(length % 300)))
            }
            RawShmName::WithoutSlash => prefix.trim_start_matches('/').to_owned(),
            RawShmName::OnlySlash => "/".to_owned(),
            RawShmName::TwoSlashes => format!("{prefix}/n"),
            RawShmName::WithZero => format!("{prefix}\0"),
        }
    }
}

fn sharing(is_shared: bool) -> Sharing {
    match is_shared {
        true => Sharing::Shared,
        false => Sharing::Private,
    }
}

fn policies(raw: &[Option<RawPolicy>]) -> Policies {
    let nodes = |has_node: bool, has_missing: bool| {
        let node = has_node.then_some(NumaNode(0));
        let missing = has_missing.then_some(MISSING_NODE);
        node.into_iter().chain(missing).collect()
    };
    let mut policies = Policies::new();
    for RawPolicy { value, is_required } in raw.iter().flatten().copied() {
        let need = match is_required {
            true => Need::Required,
            false => Need::Wished,
        };
        policies = match value {
            RawPolicyValue::NumaLocal => policies.with_numa(NumaPolicy::Local, need),
            RawPolicyValue::NumaPreferred { is_missing: true } => {
                policies.with_numa(NumaPolicy::Preferred(MISSING_NODE), need)
            }
            RawPolicyValue::NumaPreferred { is_missing: false } => {
                policies.with_numa(NumaPolicy::Preferred(NumaNode(0)), need)
            }
            RawPolicyValue::NumaBind {
                has_node,
                has_missing,
            } => policies.with_numa(NumaPolicy::Bind(nodes(has_node, has_missing)), need),
            RawPolicyValue::NumaInterleave {
                has_node,
                has_missing,
            } => policies.with_numa(NumaPolicy::Interleave(nodes(has_node, has_missing)), need),
            RawPolicyValue::HugePages { is_advised: true } => {
                policies.with_transparent_huge_pages(TransparentHugePages::Advise, need)
            }
            RawPolicyValue::HugePages { is_advised: false } => {
                policies.with_transparent_huge_pages(TransparentHugePages::Never, need)
            }
            RawPolicyValue::Merging { is_merged: true } => {
                policies.with_page_merging(PageMerging::Merge, need)
            }
            RawPolicyValue::Merging { is_merged: false } => {
                policies.with_page_merging(PageMerging::Never, need)
            }
            RawPolicyValue::CoreDump { is_included: true } => {
                policies.with_core_dump(CoreDump::Include, need)
            }
            RawPolicyValue::CoreDump { is_included: false } => {
                policies.with_core_dump(CoreDump::Exclude, need)
            }
            RawPolicyValue::OnFork(RawOnFork::Inherit) => {
                policies.with_on_fork(OnFork::Inherit, need)
            }
            RawPolicyValue::OnFork(RawOnFork::Exclude) => {
                policies.with_on_fork(OnFork::Exclude, need)
            }
            RawPolicyValue::OnFork(RawOnFork::Wipe) => policies.with_on_fork(OnFork::Wipe, need),
            RawPolicyValue::Name => {
                let name: MemoryName = "fuzz".parse().expect("a valid name");
                policies.with_name(name, need)
            }
            RawPolicyValue::Population { threads } => {
                // As many as asked for would be started.
                let threads = NonZeroUsize::MIN.saturating_add(threads.get() % 3);
                policies.with_population(Population { threads }, need)
            }
            RawPolicyValue::Locking { is_now: true } => policies.with_locking(Locking::Now, need),
            RawPolicyValue::Locking { is_now: false } => {
                policies.with_locking(Locking::OnFault, need)
            }
        };
    }
    policies
}

/// Tells whether a description requires something that the system may refuse.
pub(super) fn requires_a_policy(spec: &RegionSpec) -> bool {
    PolicyKind::ALL
        .into_iter()
        .any(|kind| spec.policies().need(kind) == Some(Need::Required))
}
