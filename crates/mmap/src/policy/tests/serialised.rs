// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Policies and reports as text.

use super::*;

const CONFIGURATION: &str = r#"{
  "numa": {
    "policy": {
      "bind": "0,2-3"
    },
    "need": "required"
  },
  "transparent-huge-pages": {
    "policy": "advise",
    "need": "wished"
  },
  "page-merging": {
    "policy": "never",
    "need": "wished"
  },
  "core-dump": {
    "policy": "exclude",
    "need": "wished"
  },
  "on-fork": {
    "policy": "wipe",
    "need": "wished"
  },
  "name": {
    "policy": "guest-ram",
    "need": "wished"
  },
  "locking": {
    "policy": "on-fault",
    "need": "required"
  }
}"#;

#[test]
fn a_configuration_reads_like_the_calls() {
    let policies = Policies::new()
        .with_numa(NumaPolicy::Bind("0,2-3".parse().unwrap()), Need::Required)
        .with_transparent_huge_pages(TransparentHugePages::Advise, Need::Wished)
        .with_page_merging(PageMerging::Never, Need::Wished)
        .with_core_dump(CoreDump::Exclude, Need::Wished)
        .with_on_fork(OnFork::Wipe, Need::Wished)
        .with_name("guest-ram".parse().unwrap(), Need::Wished)
        .with_locking(Locking::OnFault, Need::Required);
    let read: Policies = serde_json::from_str(CONFIGURATION).unwrap();
    assert_eq!(read, policies);
    let written = serde_json::to_string_pretty(&policies).unwrap();
    assert_eq!(written, CONFIGURATION);
    assert_eq!(serde_json::to_string(&Policies::new()).unwrap(), "{}");
    let preferred = r#"{"numa":{"policy":{"preferred":1},"need":"wished"}}"#;
    let expected = Policies::new().with_numa(NumaPolicy::Preferred(NumaNode(1)), Need::Wished);
    assert_eq!(
        serde_json::from_str::<Policies>(preferred).unwrap(),
        expected
    );
}

#[test]
fn a_configuration_that_makes_no_sense_is_an_error() {
    let table = [
        (r#"{"numma":null}"#, "unknown field"),
        (
            r#"{"numa":{"policy":{"bind":"3-2"},"need":"wished"}}"#,
            "ascending range",
        ),
        (
            r#"{"name":{"policy":"[x]","need":"wished"}}"#,
            "printable ASCII",
        ),
        (r#"{"locking":{"policy":"now"}}"#, "missing field `need`"),
    ];
    for (text, reason) in table {
        let error = serde_json::from_str::<Policies>(text).unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
    }
}

#[test]
fn a_report_is_the_same_when_it_is_read_again() {
    let policies = Policies::new()
        .with_numa(NumaPolicy::Preferred(NumaNode(900)), Need::Wished)
        .with_core_dump(CoreDump::Exclude, Need::Required)
        .with_transparent_huge_pages(TransparentHugePages::Collapse, Need::Wished);
    let report = apply(&policies, &anonymous(BIG_PAGE)).unwrap();
    assert_eq!(report.refused().count(), 2);
    let text = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<PolicyReport>(&text).unwrap(), report);
}
