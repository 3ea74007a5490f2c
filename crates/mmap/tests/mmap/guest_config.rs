// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A guest's memory as a configuration file has it.

use std::num::NonZeroUsize;

use guest_memory_core::{GuestAddress, GuestMemory};
use guest_memory_mmap::{
    Alignment, Backing, CoreDump, GuestMemoryBuilder, GuestMemoryMmap, HugePageSize, Locking, Need,
    NumaNode, NumaPolicy, Policies, Population, Protection, RegionKind, RegionSpec, Seals, Sharing,
    ShmObject,
};

/// A configuration as somebody would write it, with what may be left out left out.
const CONFIGURATION: &str = r#"{
  "regions": [
    {
      "label": "low",
      "start": 0,
      "size": 1048576,
      "backing": { "memfd": { "name": "ram" } },
      "policies": {
        "numa": { "policy": { "bind": "0" }, "need": "required" },
        "core-dump": { "policy": "exclude", "need": "wished" },
        "population": { "policy": { "threads": 2 }, "need": "required" }
      }
    },
    { "label": "high", "start": 4294967296, "size": 1048576 },
    {
      "label": "firmware",
      "start": 4293918720,
      "size": 65536,
      "kind": "rom",
      "protection": "read-only",
      "changeable-protection": true,
      "guard-pages": false,
      "alignment": 2097152,
      "backing": { "anonymous": { "sharing": "shared" } }
    }
  ]
}"#;

/// The same by calls.
fn described() -> GuestMemoryBuilder {
    let ram = Backing::Memfd {
        name: "ram".to_owned(),
        seals: Seals::ALL,
        huge_pages: None,
    };
    let threads = NonZeroUsize::new(2).expect("two threads");
    let policies = Policies::new()
        .with_numa(NumaPolicy::Bind(NumaNode(0).into()), Need::Required)
        .with_core_dump(CoreDump::Exclude, Need::Wished)
        .with_population(Population { threads }, Need::Required);
    GuestMemoryBuilder::new()
        .with_region(
            RegionSpec::new("low", GuestAddress(0), 1 << 20)
                .with_backing(ram)
                .with_policies(policies),
        )
        .with_region(RegionSpec::new("high", GuestAddress(1 << 32), 1 << 20))
        .with_region(
            RegionSpec::new("firmware", GuestAddress(0xfff0_0000), 1 << 16)
                .with_kind(RegionKind::Rom)
                .with_protection(Protection::ReadOnly)
                .with_changeable_protection()
                .without_guard_pages()
                .with_alignment(Alignment::TWO_MIB)
                .with_backing(Backing::Anonymous {
                    sharing: Sharing::Shared,
                    huge_pages: None,
                }),
        )
}

#[test]
fn a_configuration_reads_like_the_calls_and_builds() {
    let read: GuestMemoryBuilder = serde_json::from_str(CONFIGURATION).unwrap();
    assert_eq!(read, described());
    let memory: GuestMemoryMmap = read.build().unwrap();
    let labels: Vec<_> = memory
        .iter()
        .map(|region| region.label().unwrap())
        .collect();
    assert_eq!(labels, ["low", "firmware", "high"]);
}

#[test]
fn every_description_is_the_same_when_it_is_read_again() {
    let sharings = [Sharing::Private, Sharing::Shared];
    let pages = [None, Some(HugePageSize::TwoMiB), Some(HugePageSize::OneGiB)];
    let seals = [
        Seals::ALL,
        Seals::NONE,
        Seals {
            grow: true,
            ..Seals::NONE
        },
    ];
    let objects = [
        ShmObject::Open,
        ShmObject::Create,
        ShmObject::CreateUnlinked,
    ];
    let mut backings = vec![
        Backing::HugetlbFile {
            directory: "/dev/hugepages".into(),
        },
        Backing::Dax {
            path: "/dev/dax0.0".into(),
            offset: 1 << 21,
        },
    ];
    for sharing in sharings {
        backings.extend(pages.map(|huge_pages| Backing::Anonymous {
            sharing,
            huge_pages,
        }));
        backings.extend([false, true].map(|grow| Backing::File {
            path: "/var/ram".into(),
            offset: 4096,
            sharing,
            grow,
        }));
    }
    for seals in seals {
        backings.extend(pages.map(|huge_pages| Backing::Memfd {
            name: "ram".to_owned(),
            seals,
            huge_pages,
        }));
    }
    backings.extend(objects.map(|object| Backing::Shm {
        name: "/ram".to_owned(),
        object,
    }));
    let regions = backings.into_iter().zip(0u64..).map(|(backing, index)| {
        let start = GuestAddress(index << 32);
        let policies = Policies::new().with_locking(Locking::OnFault, Need::Wished);
        RegionSpec::new(format!("region-{index}"), start, 1 << 30)
            .with_backing(backing)
            .with_policies(policies)
    });
    let guest = regions.fold(described(), GuestMemoryBuilder::with_region);
    let text = serde_json::to_string(&guest).unwrap();
    assert_eq!(
        serde_json::from_str::<GuestMemoryBuilder>(&text).unwrap(),
        guest
    );
}

#[test]
fn what_a_configuration_cannot_mean_is_an_error_that_names_it() {
    let region =
        |fields: &str| format!(r#"{{"regions":[{{"label":"a","start":0,"size":4096{fields}}}]}}"#);
    let table = [
        (
            r#"{"regions":[],"slots":3}"#.to_owned(),
            "unknown field `slots`",
        ),
        (region(r#","guards":true"#), "unknown field `guards`"),
        (
            region(r#","guard_pages":true"#),
            "unknown field `guard_pages`",
        ),
        (region(r#","kind":"disk""#), "unknown variant `disk`"),
        (
            region(r#","protection":"write""#),
            "unknown variant `write`",
        ),
        (region(r#","alignment":3000"#), "3000 is no power of two"),
        (
            region(r#","backing":{"memfd":{"name":"a","seal":true}}"#),
            "unknown field `seal`",
        ),
        (region(r#","backing":{"memfd":{}}"#), "missing field `name`"),
        (
            region(r#","backing":{"disk":{}}"#),
            "unknown variant `disk`",
        ),
        (
            region(r#","backing":{"anonymous":{"huge-pages":"4MiB"}}"#),
            "unknown variant `4MiB`, expected `2MiB` or `1GiB`",
        ),
        (
            region(r#","policies":{"population":{"policy":{"threads":0},"need":"wished"}}"#),
            "expected a nonzero",
        ),
        (
            r#"{"regions":[{"start":0,"size":4096}]}"#.to_owned(),
            "missing field `label`",
        ),
        (
            r#"{"regions":[{"label":"a","size":4096}]}"#.to_owned(),
            "missing field `start`",
        ),
    ];
    for (text, reason) in table {
        let error = serde_json::from_str::<GuestMemoryBuilder>(&text).unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
    }
}
