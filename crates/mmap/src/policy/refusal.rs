// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Why a policy does not hold.

use std::borrow::Cow;
use std::io;

use super::{NumaNodes, PolicyKind};

/// Why a policy does not hold. It says what would be valid.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum Refusal {
    /// The kernel refused.
    #[error("{hint}")]
    Kernel {
        /// What it said, if it was more than an answer that makes no sense: an errno.
        errno: Option<i32>,
        /// What it may have meant.
        hint: Cow<'static, str>,
    },
    /// A page could not be brought in.
    #[error("{reason}")]
    Population {
        /// What the kernel said, if it was asked: an errno.
        errno: Option<i32>,
        /// Which page, why, and how many were brought in before.
        reason: String,
    },
    /// More memory would be locked than this process may.
    #[error(
        "without CAP_IPC_LOCK the limit (RLIMIT_MEMLOCK) is {limit_bytes} bytes, {locked_bytes} are locked already"
    )]
    LockLimit {
        /// What the kernel said: an errno.
        errno: i32,
        /// What is locked already, in bytes.
        locked_bytes: usize,
        /// What may be, in bytes.
        limit_bytes: usize,
    },
    /// The set of NUMA nodes is empty.
    #[error("no node is given")]
    NoNode,
    /// NUMA nodes do not exist.
    #[error("nodes {nodes} do not exist; online are {online}")]
    NodesOffline {
        /// Those that do not exist.
        nodes: NumaNodes,
        /// Those that do.
        online: NumaNodes,
    },
    /// NUMA nodes have processors only.
    #[error("nodes {nodes} have no memory; those with memory are {with_memory}")]
    NodesWithoutMemory {
        /// Those without memory.
        nodes: NumaNodes,
        /// Those with memory.
        with_memory: NumaNodes,
    },
    /// The calling thread may not use memory of these NUMA nodes.
    #[error("nodes {nodes} are outside the cpuset; it has {allowed}")]
    NodesNotAllowed {
        /// Those that it may not use.
        nodes: NumaNodes,
        /// Those that it may use.
        allowed: NumaNodes,
    },
    /// The memory consists of huge pages from the pool.
    #[error("memory of huge pages from the pool is never split, joined or merged")]
    MemoryOfHugePages,
    /// A setting switches transparent huge pages off, for the process or for memory of this kind.
    #[error("{setting} is {value}")]
    HugePagesDisabled {
        /// The file with the setting, or what else it is.
        setting: String,
        /// What it says.
        value: String,
    },
    /// The memory is shared.
    #[error("for private memory only")]
    NotPrivate,
    /// The memory is shared, or a file's, or of huge pages from the pool.
    #[error("for private memory without a file and without huge pages from the pool only")]
    NotPrivateAnonymous,
    /// The memory is the page cache of a shared file.
    #[error(
        "the cache of a shared file is placed by who reads the file; copies and memory files can be placed"
    )]
    SharedFile,
    /// The memory cannot be read, so that no page of it can be brought in.
    #[error("memory without access cannot be populated; it can be locked on fault")]
    NoAccess,
}

impl Refusal {
    /// Says what the kernel answered and what that means here.
    pub(super) fn kernel(error: &io::Error, hint: &'static str) -> Self {
        Self::Kernel {
            errno: error.raw_os_error(),
            hint: hint.into(),
        }
    }

    /// Returns what the kernel said, if it was asked: an errno.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Kernel { errno, .. } | Self::Population { errno, .. } => *errno,
            Self::LockLimit { errno, .. } => Some(*errno),
            _ => None,
        }
    }

    /// Returns what the kernel said as an error.
    pub(super) fn cause(&self) -> Option<io::Error> {
        self.errno().map(io::Error::from_raw_os_error)
    }
}

/// Error of a required policy that does not hold.
#[derive(Debug, thiserror::Error)]
#[error("policy {kind} {value} for {len_bytes} bytes at {address:#x}: {refusal}")]
#[non_exhaustive]
pub struct PolicyError {
    /// Which policy.
    pub kind: PolicyKind,
    /// What was asked for, as it prints.
    pub value: String,
    /// Host address of the first byte.
    pub address: usize,
    /// Length of the memory in bytes.
    pub len_bytes: usize,
    /// Why, and what would be valid.
    pub refusal: Refusal,
    /// What the kernel said, if it was asked.
    pub source: Option<io::Error>,
}
