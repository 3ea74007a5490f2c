// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! How the system is to treat the RAM, on the command line and for the library.

use std::num::NonZeroUsize;

use clap::{Args, ValueEnum};
use guest_memory::Policies;
use guest_memory::mmap::{
    CoreDump, Locking, Need, NumaNode, NumaPolicy, PageMerging, Population, TransparentHugePages,
};

/// What is asked of the system; only the node is required, the rest is wished.
#[derive(Clone, Debug, Args)]
pub(crate) struct PolicyOptions {
    /// The only NUMA node that RAM comes from; an error if it cannot
    #[arg(long, value_name = "N")]
    numa_node: Option<u32>,

    /// What is asked for about transparent huge pages
    #[arg(long, value_enum, value_name = "WHAT")]
    huge_pages: Option<HugePagesChoice>,

    /// Asks that RAM stays in memory
    #[arg(long)]
    lock: bool,

    /// Asks for equal pages of RAM to be merged
    #[arg(long)]
    merge: bool,

    /// Asks for RAM to be left out of core dumps
    #[arg(long)]
    no_dump: bool,
}

/// What is asked for about transparent huge pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum HugePagesChoice {
    /// They are used when a page is first touched
    Advise,
    /// They are not used
    Never,
    /// All RAM is populated when it is mapped, and then put together to huge pages
    Collapse,
}

impl PolicyOptions {
    /// Returns the node that RAM comes from, if it is to come from one.
    pub(crate) fn node(&self) -> Option<NumaNode> {
        self.numa_node.map(NumaNode)
    }

    /// Returns all that is asked for, as the library takes it; what has to be populated is by so many threads.
    pub(crate) fn policies(&self, threads: NonZeroUsize) -> Policies {
        let mut policies = Policies::new();
        if let Some(node) = self.node() {
            policies = policies.with_numa(NumaPolicy::Bind(node.into()), Need::Required);
        }
        if let Some(choice) = self.huge_pages {
            policies = policies.with_transparent_huge_pages(choice.policy(), Need::Wished);
        }
        if self.huge_pages == Some(HugePagesChoice::Collapse) {
            policies = policies.with_population(Population { threads }, Need::Wished);
        }
        if self.lock {
            policies = policies.with_locking(Locking::Now, Need::Wished);
        }
        if self.merge {
            policies = policies.with_page_merging(PageMerging::Merge, Need::Wished);
        }
        if self.no_dump {
            policies = policies.with_core_dump(CoreDump::Exclude, Need::Wished);
        }
        policies
    }
}

impl HugePagesChoice {
    fn policy(self) -> TransparentHugePages {
        match self {
            HugePagesChoice::Advise => TransparentHugePages::Advise,
            HugePagesChoice::Never => TransparentHugePages::Never,
            HugePagesChoice::Collapse => TransparentHugePages::Collapse,
        }
    }
}
