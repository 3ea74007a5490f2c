// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The pages with measurements: their tables and plots are made from the newest records, and nothing else is in them.
//!
//! A table stands between two comments, `<!-- table: flat -->` and `<!-- end -->`; the plots are files of their own.

mod markers;
mod plots;
mod tables;
mod themes;

use std::fs;
use std::path::{Path, PathBuf};

use crate::record::{Record, shelf};

/// Where the plots are.
const PLOTS: &str = "docs/img/performance";

/// The pages that have tables.
const PAGES: [&str; 2] = ["docs/performance.md", "docs/backings.md"];

/// The repository that this crate was built in.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Returns each page and plot, by its path in the repository, as the newest records give it.
///
/// # Errors
///
/// What is wrong with a record or a page.
pub fn files(root: &Path) -> Result<Vec<(PathBuf, String)>, String> {
    let records = Records(root.join("benches/record"));
    let mut files = Vec::new();
    for page in PAGES {
        let text = read(&root.join(page))?;
        let filled = markers::fill(&text, |name| tables::table(&records, name))
            .map_err(|error| format!("{page}: {error}"))?;
        files.push((page.into(), filled));
    }
    for (name, text) in plots::all(&records)? {
        files.push((Path::new(PLOTS).join(name), text));
    }
    Ok(files)
}

/// Returns what is not as the newest records give it: pages, plots, and plots that nothing makes or no page shows.
///
/// # Errors
///
/// As [`files`].
pub fn stale(root: &Path) -> Result<Vec<String>, String> {
    let files = files(root)?;
    let mut stale = Vec::new();
    let mut pages = String::new();
    for (path, text) in &files {
        let found = fs::read_to_string(root.join(path)).unwrap_or_default();
        if found != *text {
            let line = 1 + found
                .lines()
                .zip(text.lines())
                .take_while(|(a, b)| a == b)
                .count();
            stale.push(format!(
                "{}, line {line}: not what the records give",
                path.display()
            ));
        }
        if !path.starts_with(PLOTS) {
            pages += text;
        }
    }
    for entry in fs::read_dir(root.join(PLOTS))
        .into_iter()
        .flatten()
        .flatten()
    {
        let path = Path::new(PLOTS).join(entry.file_name());
        if files.iter().all(|(made, _)| *made != path) {
            stale.push(format!("{} is made of no record", path.display()));
        }
    }
    let plots = files.iter().filter(|(path, _)| path.starts_with(PLOTS));
    for (path, _) in plots {
        let shown = path.strip_prefix("docs").unwrap_or(path);
        if !pages.contains(&format!("({})", shown.display())) {
            stale.push(format!("{} is on no page", path.display()));
        }
    }
    Ok(stale)
}

/// Writes what is not as the newest records give it, and returns what that was.
///
/// # Errors
///
/// As [`files`], and what writing says.
pub fn write(root: &Path) -> Result<Vec<PathBuf>, String> {
    let mut written = Vec::new();
    fs::create_dir_all(root.join(PLOTS)).map_err(|error| format!("{PLOTS}: {error}"))?;
    for (path, text) in files(root)? {
        let target = root.join(&path);
        if fs::read_to_string(&target).ok().as_ref() != Some(&text) {
            fs::write(&target, &text).map_err(|error| format!("{}: {error}", path.display()))?;
            written.push(path);
        }
    }
    Ok(written)
}

/// The folder of the records.
struct Records(PathBuf);

impl Records {
    fn newest(&self, kind: &str) -> Result<Record, String> {
        shelf::newest(&self.0, kind)
    }

    fn instructions(&self) -> Result<String, String> {
        read(&self.0.join("instructions.csv"))
    }
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// Returns where and when a record was made, in one line.
fn origin(record: &Record) -> Result<String, String> {
    let parts = ["cpu", "kernel", "compiler", "date"].map(|key| record.said(key));
    let parts: Vec<&str> = parts.into_iter().collect::<Result<_, _>>()?;
    Ok(parts.join(" · "))
}

/// Returns of how many runs a record is, and of which profile.
fn runs(record: &Record) -> Result<String, String> {
    let profile = match record.said("profile")? {
        "release" => "release profile",
        "lto" => "release profile with link-time optimisation",
        other => other,
    };
    Ok(match record.run_count()? {
        1 => format!("one run, {profile}"),
        count => format!("medians of {count} runs, {profile}"),
    })
}
