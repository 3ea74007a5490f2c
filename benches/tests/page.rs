// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The pages with measurements and the records they are made of do not drift apart, and plots are well-formed.
#![expect(
    clippy::unwrap_used,
    reason = "the helpers of tests may unwrap as tests do"
)]

use guest_memory_benches::page;

#[test]
fn pages_and_plots_are_what_the_newest_records_give() {
    let stale = page::stale(&page::root()).unwrap();
    assert!(
        stale.is_empty(),
        "{}\nto repair: cargo run -p guest-memory-benches --bin report",
        stale.join("\n")
    );
}

#[test]
fn every_plot_is_well_formed_and_says_where_it_was_measured() {
    let files = page::files(&page::root()).unwrap();
    let plots: Vec<_> = files
        .iter()
        .filter(|(path, _)| path.extension().is_some_and(|it| it == "svg"))
        .collect();
    assert!(plots.len() > 10);
    for (path, text) in plots {
        let path = path.display();
        assert_eq!(elements(text)[..3], ["svg", "title", "desc"], "{path}");
        for word in ["rustc 1.", "Linux ", "20", "profile"] {
            assert!(text.contains(word), "{path}: {word}");
        }
        assert!(!text.contains("NaN") && !text.contains("inf"), "{path}");
        for (name, value) in numbers(text) {
            assert!((0.0..5000.0).contains(&value), "{path}: {name} is {value}");
        }
    }
}

/// Returns the names of the elements of an XML text, each of which must be closed where it was opened.
fn elements(text: &str) -> Vec<&str> {
    let mut names = Vec::new();
    let mut open = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('<') {
        assert!(!before.contains('>'), "a bare > before {after:.40}");
        let (tag, after) = after.split_once('>').unwrap();
        assert!(
            !tag.contains('<') && tag.matches('"').count().is_multiple_of(2),
            "{tag}"
        );
        rest = after;
        match tag.strip_prefix('/') {
            Some(name) => assert_eq!(open.pop(), Some(name)),
            None => {
                let name = tag.split([' ', '/']).next().unwrap();
                names.push(name);
                if !tag.ends_with('/') {
                    open.push(name);
                }
            }
        }
    }
    assert!(open.is_empty(), "{open:?}");
    assert_eq!(rest.trim(), "");
    names
}

/// Returns the places and sizes in a plot.
fn numbers(text: &str) -> Vec<(&str, f64)> {
    let names = [
        " x=\"",
        " y=\"",
        " width=\"",
        " height=\"",
        " cx=\"",
        " cy=\"",
        " r=\"",
    ];
    let of = |name: &'static str| {
        text.match_indices(name).map(move |(at, _)| {
            let value = text[at + name.len()..].split('"').next().unwrap();
            (name, value.parse().unwrap())
        })
    };
    names.into_iter().flat_map(of).collect()
}
