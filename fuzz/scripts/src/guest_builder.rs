// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Scripts that describe a guest's memory region by region: what is wrong with the description must be in the plan, each
//! fault once, and a description without faults must become the memory it describes.

mod built;
mod expected;
mod script;

use guest_memory_bitmap::AtomicBitmap;
use guest_memory_mmap::{
    GuestMemoryBuildError, GuestMemoryBuilder, GuestMemoryMmap, GuestMemoryPlan, MmapRegionError,
    RegionSpec,
};

use script::{Files, RawRegion};

/// Names of the operations, as [`run_with`] reports them: a plan succeeds where it finds nothing wrong, a refusal where it
/// finds something, the others where memory was built so.
pub const OPERATIONS: [&str; 8] = [
    "plan",
    "refusal",
    "build anonymous",
    "build memfd",
    "build file",
    "build shm",
    "required policy",
    "write",
];

/// Guests of more bytes are planned and not built.
const MOST_BYTES: usize = 64 << 20;

/// Memory that is aligned to more may find no place.
const MOST_ALIGNED: usize = 2 << 20;

/// Runs the script in `data`.
///
/// # Panics
///
/// When a plan or the memory is not what the description asks for.
pub fn run(data: &[u8]) {
    run_with(data, |_, _| {});
}

/// Runs the script in `data` and reports each operation by its name and whether it succeeded.
///
/// # Panics
///
/// As [`run`].
pub fn run_with(data: &[u8], mut report: impl FnMut(&'static str, bool)) {
    let mut raw_regions: Vec<RawRegion> = Vec::new();
    super::for_each_operation(data, |region| raw_regions.push(region));
    let _named = super::Named(&raw_regions);
    let files = Files::new();
    let guest = raw_regions
        .iter()
        .fold(GuestMemoryBuilder::new(), |guest, raw| {
            guest.with_region(raw.spec(&files))
        });

    let plan = guest.plan();
    let is_sound = check_plan(&plan, guest.regions());
    report("plan", is_sound);
    report("refusal", !is_sound);
    let sizes = guest.regions().iter().map(RegionSpec::size);
    if sizes.fold(0, usize::saturating_add) <= MOST_BYTES {
        build(&guest, &plan, &mut report);
    }
}

/// Checks the plan of some regions; tells whether it found nothing wrong with them.
fn check_plan(plan: &GuestMemoryPlan, regions: &[RegionSpec]) -> bool {
    let mut found: Vec<_> = plan
        .problems()
        .iter()
        .map(|problem| (problem.region.as_str(), problem.field))
        .collect();
    found.sort_unstable();
    let mut wanted = expected::problems(regions);
    wanted.sort_unstable();
    assert_eq!(found, wanted, "the problems of {plan}");

    let steps: Vec<_> = plan
        .steps()
        .iter()
        .map(|step| step.region.as_str())
        .collect();
    assert_eq!(steps, expected::steps(regions), "the steps of {plan}");
    // One line for each, and one that adds up.
    let lines = plan.to_string().lines().count();
    assert_eq!(lines, steps.len() + 1 + found.len(), "{plan}");
    found.is_empty()
}

fn build(
    guest: &GuestMemoryBuilder,
    plan: &GuestMemoryPlan,
    report: &mut impl FnMut(&'static str, bool),
) {
    let memory: GuestMemoryMmap<AtomicBitmap> = match guest.build() {
        Ok(memory) => memory,
        Err(GuestMemoryBuildError::Problems(problems)) => {
            assert_eq!(problems, plan.problems(), "the plan has others");
            assert!(!problems.is_empty(), "refused without a reason");
            return;
        }
        Err(GuestMemoryBuildError::Collection(error)) => {
            assert!(guest.regions().is_empty(), "{error:?}");
            return;
        }
        Err(GuestMemoryBuildError::Region { region, source }) => {
            assert!(plan.problems().is_empty(), "built in spite of {plan}");
            let spec = guest.regions().iter().find(|spec| spec.label() == region);
            let spec = spec.expect("the region has the label of a description");
            assert!(may_fail(spec, &source), "{source:?} for {spec:?}");
            return;
        }
        Err(error) => panic!("an error of a kind that is not known here: {error:?}"),
    };
    assert!(plan.problems().is_empty(), "built in spite of {plan}");
    built::check(&memory, guest.regions(), report);
}

/// Tells whether a region without a fault in its description can still not be built for this reason.
fn may_fail(spec: &RegionSpec, error: &MmapRegionError) -> bool {
    match error {
        MmapRegionError::Policy(_) => script::requires_a_policy(spec),
        _ => spec
            .alignment()
            .is_some_and(|alignment| alignment.bytes() > MOST_ALIGNED),
    }
}
