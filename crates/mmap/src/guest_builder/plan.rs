// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What building a guest's memory will do, and what stands in its way.

use std::collections::BTreeMap;
use std::fmt;

use super::{RegionProblem, RegionSpec};
use crate::backing::hugetlb;
use crate::bytes_text::{bytes_text, count_text};
use crate::policy::PolicyKind;

/// One thing that will be done.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct PlanStep {
    /// Label of the region.
    pub region: String,
    /// What will be done with it.
    pub action: String,
}

/// What building a guest's memory will do, in order, and what stands in its way.
///
/// It prints one line for each.
///
/// # Examples
///
/// ```
/// use guest_memory_core::GuestAddress;
/// use guest_memory_mmap::{GuestMemoryBuilder, RegionSpec};
///
/// let guest = GuestMemoryBuilder::new()
///     .with_region(RegionSpec::new("low", GuestAddress(0), 2 << 20))
///     .with_region(RegionSpec::new("high", GuestAddress(1 << 20), 2 << 20));
/// let plan = guest.plan();
/// assert_eq!(plan.steps().len(), 2);
/// let problem = &plan.problems()[0];
/// assert_eq!((problem.region.as_str(), problem.field), ("high", "start"));
/// assert_eq!(problem.valid, "\"low\" takes all up to 0x200000");
/// assert!(plan.to_string().starts_with("low   map 2 MiB for [0x0, 0x200000) from private anonymous memory"));
/// ```
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct GuestMemoryPlan {
    steps: Vec<PlanStep>,
    problems: Vec<RegionProblem>,
    total_bytes: u128,
    /// Size of a huge page and how many are needed.
    huge_pages: BTreeMap<usize, usize>,
}

impl GuestMemoryPlan {
    /// Returns what will be done, in order.
    #[must_use]
    pub fn steps(&self) -> &[PlanStep] {
        &self.steps
    }

    /// Returns what is wrong with the description or missing on this system; if there is something, nothing will be done.
    #[must_use]
    pub fn problems(&self) -> &[RegionProblem] {
        &self.problems
    }

    /// Returns how many huge pages of a size, in bytes, will be taken from the pool; 0 for a size that no region has.
    #[must_use]
    pub fn huge_pages(&self, page_size: usize) -> usize {
        self.huge_pages.get(&page_size).copied().unwrap_or(0)
    }

    pub(super) fn into_problems(self) -> Vec<RegionProblem> {
        self.problems
    }

    /// Makes the plan.
    pub(super) fn of(regions: &[RegionSpec]) -> Self {
        let mut ascending: Vec<&RegionSpec> = regions.iter().collect();
        ascending.sort_by_key(|spec| spec.start());
        let mut plan = Self::default();
        for spec in &ascending {
            plan.add(spec);
        }
        plan.check_overlap(&ascending);
        plan.check_labels(regions);
        plan.check_pools(&ascending);
        plan
    }

    fn add(&mut self, spec: &RegionSpec) {
        self.total_bytes = self.total_bytes.saturating_add(spec.size() as u128);
        let mut step = |action| {
            self.steps.push(PlanStep {
                region: spec.label().to_owned(),
                action,
            });
        };
        step(map_action(spec));
        for (kind, value, need) in spec.policies().list() {
            step(format!("{kind}: {value} ({need})"));
        }
        let mut found = |field, value: String, valid: String| {
            self.problems.push(RegionProblem {
                region: spec.label().to_owned(),
                field,
                value,
                valid,
            });
        };
        if spec.size() == 0 {
            found("size", "0".to_owned(), "at least 1 byte".to_owned());
        } else if spec.last().is_none() {
            let most = u128::from(u64::MAX)
                .saturating_sub(spec.start().0.into())
                .saturating_add(1);
            found(
                "size",
                spec.size().to_string(),
                format!("at most {most} bytes from there on"),
            );
        } else if spec.size() > isize::MAX.unsigned_abs() {
            // As much as one mapping can have.
            found(
                "size",
                spec.size().to_string(),
                format!("at most {} bytes", isize::MAX),
            );
        }
        for (field, value, valid) in spec.backing().problems(spec.size(), spec.protection()) {
            found(field, value, valid);
        }
        for (kind, value, refusal) in spec.policies().problems() {
            let field = match kind {
                PolicyKind::Numa => "NUMA policy",
                _ => "policy",
            };
            found(field, value, refusal.to_string());
        }
    }

    /// Notes regions that share guest addresses with the one before.
    fn check_overlap(&mut self, ascending: &[&RegionSpec]) {
        let mut before: Option<(&RegionSpec, u64)> = None;
        for spec in ascending {
            let Some(last) = spec.last() else { continue };
            if let Some((other, other_last)) = before
                && spec.start().0 <= other_last
            {
                let valid = match other_last.checked_add(1) {
                    Some(end) => format!("{:?} takes all up to {end:#x}", other.label()),
                    None => format!("{:?} takes all up to the end", other.label()),
                };
                self.problems.push(RegionProblem {
                    region: spec.label().to_owned(),
                    field: "start",
                    value: format!("{:#x}", spec.start().0),
                    valid,
                });
            }
            if before.is_none_or(|(_, other_last)| last > other_last) {
                before = Some((spec, last));
            }
        }
    }

    fn check_labels(&mut self, regions: &[RegionSpec]) {
        for (index, spec) in regions.iter().enumerate() {
            let is_again = regions
                .iter()
                .take(index)
                .any(|other| other.label() == spec.label());
            if is_again {
                self.problems.push(RegionProblem {
                    region: spec.label().to_owned(),
                    field: "label",
                    value: format!("{:?}", spec.label()),
                    valid: "another region has it; it must be its own".to_owned(),
                });
            }
        }
    }

    /// Adds up the huge pages of all regions, and notes the regions that the pools have no more pages for.
    fn check_pools(&mut self, ascending: &[&RegionSpec]) {
        for spec in ascending {
            let Some(page_size) = spec.backing().huge_page_size() else {
                continue;
            };
            let pages = spec.size().div_ceil(page_size);
            let needed = self.huge_pages.entry(page_size).or_default();
            let before = *needed;
            *needed = needed.saturating_add(pages);
            // A pool that cannot be looked at says what it lacks when the pages are mapped.
            if let Ok(free_pages) = hugetlb::free_pages(page_size)
                && *needed > free_pages
            {
                let left = free_pages.saturating_sub(before);
                self.problems.push(RegionProblem {
                    region: spec.label().to_owned(),
                    field: "backing",
                    value: format!(
                        "of {} of {}",
                        count_text(pages, "huge page"),
                        bytes_text(page_size as u128)
                    ),
                    valid: format!("the pool has {left} left for it"),
                });
            }
        }
    }
}

fn map_action(spec: &RegionSpec) -> String {
    let end = u128::from(spec.start().0).saturating_add(spec.size() as u128);
    let guards = if spec.has_guard_pages() {
        ", between guard pages"
    } else {
        ""
    };
    format!(
        "map {} for [{:#x}, {end:#x}) from {}, {}{guards}",
        bytes_text(spec.size() as u128),
        spec.start().0,
        spec.backing(),
        spec.protection(),
    )
}

impl fmt::Display for GuestMemoryPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.steps.iter().map(|step| step.region.len()).max();
        let width = width.unwrap_or(0);
        for step in &self.steps {
            writeln!(f, "{:<width$}  {}", step.region, step.action)?;
        }
        write!(f, "in all {}", bytes_text(self.total_bytes))?;
        for (page_size, pages) in &self.huge_pages {
            write!(
                f,
                ", {} of {}",
                count_text(*pages, "huge page"),
                bytes_text(*page_size as u128)
            )?;
        }
        writeln!(f)?;
        for problem in &self.problems {
            writeln!(f, "problem: {problem}")?;
        }
        Ok(())
    }
}
