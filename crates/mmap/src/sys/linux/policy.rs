// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! How the kernel treats memory: where it lies, by which pages, who else sees it, whether it stays.
//!
//! All of it is done to an [`Extent`], which is memory that this crate may manage. None of it changes
//! what this process reads.
#![expect(unsafe_code, reason = "calls the C library")]

use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;

use super::madvise;
use crate::extent::Extent;

/// Advice to make huge pages of small ones now, from `asm-generic/mman-common.h`: not every C library has it.
const MADV_COLLAPSE: libc::c_int = 25;
/// Flag of `mbind` that makes pages which lie elsewhere an error, from `linux/mempolicy.h`.
const MPOL_MF_STRICT: libc::c_ulong = 1 << 0;
/// An argument of `prctl` that must be zero: they are words.
const ZERO: libc::c_ulong = 0;

/// What to tell the kernel about memory: the kinds that leave its bytes as they are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Advice {
    /// Use transparent huge pages.
    HugePage,
    /// Use none.
    NoHugePage,
    /// Put what is there into transparent huge pages, now.
    Collapse,
    /// Merge pages of equal contents.
    Mergeable,
    /// Merge none, and split those that were merged.
    Unmergeable,
    /// Write it to core dumps.
    DoDump,
    /// Leave it out of core dumps.
    DontDump,
    /// A forked child has it.
    DoFork,
    /// A forked child has a hole there.
    DontFork,
    /// A forked child has zeros there.
    WipeOnFork,
    /// A forked child has its contents.
    KeepOnFork,
}

impl Advice {
    const fn number(self) -> libc::c_int {
        match self {
            Self::HugePage => libc::MADV_HUGEPAGE,
            Self::NoHugePage => libc::MADV_NOHUGEPAGE,
            Self::Collapse => MADV_COLLAPSE,
            Self::Mergeable => libc::MADV_MERGEABLE,
            Self::Unmergeable => libc::MADV_UNMERGEABLE,
            Self::DoDump => libc::MADV_DODUMP,
            Self::DontDump => libc::MADV_DONTDUMP,
            Self::DoFork => libc::MADV_DOFORK,
            Self::DontFork => libc::MADV_DONTFORK,
            Self::WipeOnFork => libc::MADV_WIPEONFORK,
            Self::KeepOnFork => libc::MADV_KEEPONFORK,
        }
    }
}

/// Which rule `mbind` sets.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum NodeMode {
    /// From these nodes only.
    Bind,
    /// From this node if it has memory.
    Preferred,
    /// From these nodes in turn.
    Interleave,
    /// From the node of the processor that touches the page first.
    Local,
}

impl NodeMode {
    const fn number(self) -> libc::c_int {
        match self {
            Self::Bind => libc::MPOL_BIND,
            Self::Preferred => libc::MPOL_PREFERRED,
            Self::Interleave => libc::MPOL_INTERLEAVE,
            Self::Local => libc::MPOL_LOCAL,
        }
    }
}

/// What to do about pages that are there already and lie elsewhere.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Placement {
    /// Leave them.
    Lenient,
    /// Fail with `EIO`.
    Strict,
}

/// Advises the kernel about memory.
///
/// See [madvise(2)](https://man7.org/linux/man-pages/man2/madvise.2.html).
pub(crate) fn advise(extent: Extent<'_>, advice: Advice) -> io::Result<()> {
    // SAFETY: by the extent's invariant the range is mapped and ours to manage; no advice of the enum
    // discards bytes or takes memory away from this process.
    unsafe { madvise(extent.start(), extent.len_bytes(), advice.number()) }
}

/// Says which NUMA nodes pages come from, by a mask with bit `n % c_ulong::BITS` of word `n / c_ulong::BITS` for node `n`.
///
/// See [mbind(2)](https://man7.org/linux/man-pages/man2/mbind.2.html).
pub(crate) fn place(
    extent: Extent<'_>,
    mode: NodeMode,
    nodes: &[libc::c_ulong],
    placement: Placement,
) -> io::Result<()> {
    let flags = match placement {
        Placement::Lenient => 0,
        Placement::Strict => MPOL_MF_STRICT,
    };
    // The kernel looks at one bit less than it is told.
    let bits = size_of_val(nodes).saturating_mul(8).saturating_add(1);
    // SAFETY: by the extent's invariant the range is mapped and ours to manage; the rule moves no page
    // without one of the flags that say so. The kernel reads as many words as the mask has: the bits that it
    // looks at are those of `nodes`.
    let status = unsafe {
        libc::syscall(
            libc::SYS_mbind,
            extent.start().as_ptr(),
            extent.len_bytes(),
            libc::c_long::from(mode.number()),
            nodes.as_ptr(),
            bits,
            flags,
        )
    };
    match status {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Says whether this process has switched transparent huge pages off for itself, as advice or without.
///
/// See [PR_GET_THP_DISABLE(2const)](https://man7.org/linux/man-pages/man2/PR_GET_THP_DISABLE.2const.html).
pub(crate) fn process_has_no_huge_pages() -> io::Result<bool> {
    // SAFETY: takes integers.
    let status = unsafe { libc::prctl(libc::PR_GET_THP_DISABLE, ZERO, ZERO, ZERO, ZERO) };
    match status {
        -1 => Err(io::Error::last_os_error()),
        // Further bits are exceptions, of which there is one: memory with the advice.
        answer => Ok(answer == 1),
    }
}

/// Brings all pages into memory and keeps them there.
///
/// See [mlock(2)](https://man7.org/linux/man-pages/man2/mlock.2.html).
pub(crate) fn lock(extent: Extent<'_>) -> io::Result<()> {
    // SAFETY: by the extent's invariant the range is mapped and ours to manage; no byte changes.
    check(unsafe { libc::mlock(extent.start().as_ptr().cast(), extent.len_bytes()) })
}

/// Keeps pages in memory once they are there.
///
/// See [mlock2(2)](https://man7.org/linux/man-pages/man2/mlock.2.html).
pub(crate) fn lock_on_fault(extent: Extent<'_>) -> io::Result<()> {
    let start = extent.start().as_ptr();
    // SAFETY: by the extent's invariant the range is mapped and ours to manage; no byte changes.
    check(unsafe { libc::mlock2(start.cast(), extent.len_bytes(), libc::MLOCK_ONFAULT) })
}

/// Takes a lock back.
///
/// See [munlock(2)](https://man7.org/linux/man-pages/man2/mlock.2.html).
pub(crate) fn unlock(extent: Extent<'_>) -> io::Result<()> {
    // SAFETY: by the extent's invariant the range is mapped and ours to manage; no byte changes.
    check(unsafe { libc::munlock(extent.start().as_ptr().cast(), extent.len_bytes()) })
}

/// Returns how many bytes this process may lock, or nothing if as many as it likes.
///
/// See [getrlimit(2)](https://man7.org/linux/man-pages/man2/getrlimit.2.html).
pub(crate) fn lock_limit() -> io::Result<Option<usize>> {
    let mut answer = MaybeUninit::<libc::rlimit>::zeroed();
    // SAFETY: `answer` has room for the structure.
    check(unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, answer.as_mut_ptr()) })?;
    // SAFETY: the structure is plain integers, zeroed above and then filled by the successful call.
    let limit = unsafe { answer.assume_init() }.rlim_cur;
    // More than addresses reach is no limit either.
    Ok(usize::try_from(limit)
        .ok()
        .filter(|_| limit != libc::RLIM_INFINITY))
}

/// Names anonymous memory in `/proc/PID/maps`.
///
/// See [PR_SET_VMA(2const)](https://man7.org/linux/man-pages/man2/PR_SET_VMA.2const.html).
pub(crate) fn set_name(extent: Extent<'_>, name: &CStr) -> io::Result<()> {
    // SAFETY: by the extent's invariant the range is mapped and ours to manage; no byte changes. The kernel
    // copies the name, which ends with a zero.
    check(unsafe {
        libc::prctl(
            libc::PR_SET_VMA,
            // The call takes words.
            libc::PR_SET_VMA_ANON_NAME as libc::c_ulong,
            extent.start().as_ptr(),
            extent.len_bytes(),
            name.as_ptr(),
        )
    })
}

fn check(status: libc::c_int) -> io::Result<()> {
    match status {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
