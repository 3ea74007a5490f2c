// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The cases of `compare` by theme.

use super::Records;
use crate::report::{Case, cases, table};
use crate::statistics::geometric_mean;

/// Cases that are shown together.
pub(super) struct Theme {
    /// Its plot's name, before the profile.
    pub(super) file: &'static str,
    /// What it is.
    pub(super) title: &'static str,
    /// How its cases begin. A case belongs to the theme that has the most of its beginning.
    starts: &'static [&'static str],
    /// What they all have in their names and the plot's title says already.
    pub(super) known: &'static str,
    /// What its limits are, if it has some.
    pub(super) limit: &'static str,
    /// Which profiles are plotted.
    pub(super) profiles: &'static [&'static str],
}

const BOTH: &[&str] = &["release", "lto"];
const ONE: &[&str] = &["release"];

pub(super) const THEMES: [Theme; 9] = [
    Theme {
        file: "access",
        title: "Single accesses",
        starts: &["read_obj", "write_obj", "load", "store"],
        known: "",
        limit: "limit: a volatile access",
        profiles: BOTH,
    },
    Theme {
        file: "slices",
        title: "Slices",
        starts: &["read_slice", "write_slice"],
        known: "",
        limit: "limit: memcpy",
        profiles: BOTH,
    },
    Theme {
        file: "lookup-cases",
        title: "Lookups among regions",
        starts: &["find_region", "read_obj u64 among"],
        known: "",
        limit: "",
        profiles: &[],
    },
    Theme {
        file: "iommu",
        title: "Behind an IOMMU with 1,000 mappings",
        starts: &["IOTLB"],
        known: "IOTLB hit, 1,000 mappings: ",
        limit: "limit: this library without it",
        profiles: ONE,
    },
    Theme {
        file: "tracked",
        title: "Tracked writes",
        starts: &["tracked"],
        known: "tracked ",
        limit: "limit: untracked",
        profiles: BOTH,
    },
    Theme {
        file: "logs",
        title: "Dirty logs: marks and harvests",
        starts: &["mark", "get_and_reset", "harvest"],
        known: "",
        limit: "limit: plain words",
        profiles: ONE,
    },
    Theme {
        file: "files",
        title: "Reads from a file",
        starts: &["64"],
        known: "",
        limit: "limit: one preadv",
        profiles: ONE,
    },
    Theme {
        file: "maps",
        title: "Maps that change",
        starts: &["GuestMemoryAtomic", "reader", "window"],
        known: "",
        limit: "limit: a map that stays",
        profiles: ONE,
    },
    Theme {
        file: "guests",
        title: "Guests and regions that come and go",
        starts: &["build", "drop", "plug"],
        known: "",
        limit: "limit: the system call",
        profiles: ONE,
    },
];

impl Theme {
    /// Returns those of the cases that are of this theme.
    pub(super) fn of<'a>(&'static self, cases: &'a [Case]) -> Result<Vec<&'a Case>, String> {
        let mut found = Vec::new();
        for case in cases {
            if theme_of(case)?.file == self.file {
                found.push(case);
            }
        }
        Ok(found)
    }
}

fn theme_of(case: &Case) -> Result<&'static Theme, String> {
    let fit = |theme: &Theme| {
        let fits = theme
            .starts
            .iter()
            .filter(|start| case.name.starts_with(**start));
        fits.map(|start| start.len()).max().unwrap_or(0)
    };
    THEMES
        .iter()
        .max_by_key(|theme| fit(theme))
        .filter(|theme| fit(theme) > 0)
        .ok_or_else(|| format!("{} belongs to no theme", case.name))
}

/// Makes the table of the ratios, a theme a row.
pub(super) fn summary(records: &Records) -> Result<String, String> {
    let release = cases(&records.newest("compare-release")?)?;
    let lto = cases(&records.newest("compare-lto")?)?;
    let mut rows = Vec::new();
    for theme in &THEMES {
        let of_release = theme.of(&release)?;
        rows.push([
            theme.title.to_owned(),
            of_release.len().to_string(),
            ratios(&of_release),
            ratios(&theme.of(&lto)?),
        ]);
    }
    let all = |cases: &[Case]| ratios(&cases.iter().collect::<Vec<_>>());
    rows.push([
        "all".to_owned(),
        release.len().to_string(),
        all(&release),
        all(&lto),
    ]);
    Ok(table(
        [
            "cases",
            ">how many",
            ">release",
            ">with link-time optimisation",
        ],
        &rows,
    ))
}

/// The geometric mean, the least and the greatest.
fn ratios(cases: &[&Case]) -> String {
    let ratios: Vec<f64> = cases.iter().filter_map(|case| case.ratio).collect();
    let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
    let most = ratios.iter().copied().fold(0.0, f64::max);
    let [mean, least, most] = [geometric_mean(&ratios), least, most].map(short);
    format!("{mean} ({least} to {most})")
}

/// A ratio in two or three figures.
fn short(ratio: f64) -> String {
    let digits = if ratio < 9.95 {
        2
    } else {
        usize::from(ratio < 99.5)
    };
    format!("{ratio:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(name: &str, ratio: f64) -> Case {
        Case {
            name: name.to_owned(),
            ours: 1.0,
            theirs: Some(ratio),
            ratio: Some(ratio),
            limit: None,
            over_limit: None,
            limit_is: String::new(),
        }
    }

    #[test]
    fn a_case_is_of_one_theme() {
        let cases = [
            case("read_obj u64", 8.0),
            case("read_obj u64 among 512 regions", 2.0),
        ];
        assert_eq!(THEMES[0].of(&cases).unwrap(), [&cases[0]]);
        assert_eq!(THEMES[2].of(&cases).unwrap(), [&cases[1]]);
        assert!(THEMES[0].of(&[case("another", 1.0)]).is_err());
    }

    #[test]
    fn ratios_are_mean_least_and_greatest() {
        let cases = [case("a", 0.5), case("b", 128.0)];
        assert_eq!(ratios(&[&cases[0], &cases[1]]), "8.00 (0.50 to 128)");
    }
}
