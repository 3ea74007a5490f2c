// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Transparent huge pages: those that the kernel makes of small ones by itself.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

use super::page_source::PageSource;
use super::{Policy, PolicyKind, Refusal};
use crate::extent::Extent;
use crate::sys::{self, Advice};

/// The system's settings.
const SETTINGS: &str = "/sys/kernel/mm/transparent_hugepage";
/// How often to collapse when the kernel cannot just now: a page under way elsewhere makes it give up.
const ATTEMPTS: u32 = 4;

/// Whether the kernel uses transparent huge pages.
///
/// They are no pages from the pool: memory of those is refused. What the settings of the system or the process switch off
/// for this kind of memory, so that the advice would have no effect, is refused as well. Memory files have a
/// setting of their own, `shmem_enabled`, which many systems leave at `never`; collapsing works regardless of it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum TransparentHugePages {
    /// When a page is first touched, and later when there is time, where the system uses them on request.
    Advise,
    /// Not at all.
    Never,
    /// Once, of what is there when the region is built, so that it goes with population.
    ///
    /// Private memory needs at least one page populated per huge page.
    Collapse,
}

impl TransparentHugePages {
    /// Says whether it is about pages that are there.
    pub(super) fn follows_population(self) -> bool {
        self == Self::Collapse
    }
}

impl Policy for TransparentHugePages {
    const KIND: PolicyKind = PolicyKind::TransparentHugePages;

    fn apply(&self, extent: Extent<'_>) -> Result<(), Refusal> {
        let source = PageSource::of(extent)?;
        if source == PageSource::HugePages {
            return Err(Refusal::MemoryOfHugePages);
        }
        let result = match self {
            Self::Advise => {
                check_process()?;
                check_enabled(source, Path::new(SETTINGS))?;
                sys::advise(extent, Advice::HugePage)
            }
            Self::Never => sys::advise(extent, Advice::NoHugePage),
            Self::Collapse => {
                check_process()?;
                collapse(extent)
            }
        };
        match result {
            // A kernel that does not know the advice has no such pages.
            Err(error) if *self == Self::Never && error.raw_os_error() == Some(libc::EINVAL) => {
                Ok(())
            }
            result => result.map_err(|error| self.explain(&error)),
        }
    }
}

impl TransparentHugePages {
    fn explain(self, error: &io::Error) -> Refusal {
        let hint = match (self, error.raw_os_error()) {
            (Self::Collapse, Some(libc::EINVAL)) => {
                "needs Linux 6.1, an aligned huge page within the memory, and a page populated in each"
            }
            (Self::Collapse, Some(libc::ENOMEM)) => "the system has too few huge pages free",
            (Self::Collapse, Some(libc::EAGAIN | libc::EBUSY)) => "pages are in use elsewhere",
            (_, Some(libc::EINVAL)) => "needs a kernel with transparent huge pages",
            _ => "madvise failed",
        };
        Refusal::kernel(error, hint)
    }
}

impl fmt::Display for TransparentHugePages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Advise => "advise",
            Self::Never => "never",
            Self::Collapse => "collapse",
        })
    }
}

fn collapse(extent: Extent<'_>) -> io::Result<()> {
    let mut result = Ok(());
    for _ in 0..ATTEMPTS {
        result = sys::advise(extent, Advice::Collapse);
        match &result {
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => {}
            _ => break,
        }
    }
    result
}

/// Checks that the process, or whoever started it, has not ruled them out.
fn check_process() -> Result<(), Refusal> {
    // A kernel that cannot tell has no way to rule them out.
    match sys::process_has_no_huge_pages() {
        Ok(true) => Err(Refusal::HugePagesDisabled {
            setting: "PR_SET_THP_DISABLE of this process".into(),
            value: "1".into(),
        }),
        _ => Ok(()),
    }
}

/// Checks that the settings in the folder give huge pages of some size to memory of this kind that asks for them.
fn check_enabled(source: PageSource, folder: &Path) -> Result<(), Refusal> {
    let (name, on_request): (_, &[&str]) = match source {
        PageSource::Anonymous => ("enabled", &["always", "madvise"]),
        PageSource::MemoryFile => (
            "shmem_enabled",
            &["always", "within_size", "advise", "force"],
        ),
        // Whoever mounted the tmpfs decided; files follow their file system.
        PageSource::Tmpfs | PageSource::File | PageSource::HugePages => return Ok(()),
    };
    let unreadable =
        |error: io::Error| Refusal::kernel(&error, "needs a kernel with transparent huge pages");
    let global = setting(&folder.join(name)).map_err(unreadable)?;
    let is_on = |value: &str| on_request.contains(&value);
    let by_size = by_size(folder, name).map_err(unreadable)?;
    let enabled = match global.as_str() {
        "deny" => false,
        "force" => true,
        _ if by_size.is_empty() => is_on(&global),
        _ => by_size.iter().any(|value| match value.as_str() {
            "inherit" => is_on(&global),
            value => is_on(value),
        }),
    };
    match enabled {
        true => Ok(()),
        false => Err(Refusal::HugePagesDisabled {
            setting: folder.join(name).display().to_string(),
            value: global,
        }),
    }
}

/// Returns the choice that stands in brackets.
fn setting(file: &Path) -> io::Result<String> {
    let text = fs::read_to_string(file)?;
    let chosen = text
        .split_once('[')
        .and_then(|(_, rest)| rest.split_once(']'));
    chosen
        .map(|(chosen, _)| chosen.to_owned())
        .ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))
}

/// Returns the settings for each size, none where the kernel has one for all: before Linux 6.8, for memory files 6.11.
fn by_size(folder: &Path, name: &str) -> io::Result<Vec<String>> {
    let mut values = Vec::new();
    for entry in fs::read_dir(folder)? {
        let file = entry?.path().join(name);
        if file.is_file() {
            values.push(setting(&file)?);
        }
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Settings as a kernel has them: one for all, and one each for two sizes if there are such.
    fn disabled(source: PageSource, global: &str, by_size: Option<[&str; 2]>) -> bool {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, value: &str| {
            fs::write(
                folder.path().join(name),
                format!("other [{value}] another\n"),
            )
            .unwrap();
        };
        write("defrag", "madvise");
        for name in ["enabled", "shmem_enabled"] {
            write(name, global);
            for (size, value) in ["hugepages-64kB", "hugepages-2048kB"]
                .into_iter()
                .zip(by_size.into_iter().flatten())
            {
                fs::create_dir_all(folder.path().join(size)).unwrap();
                write(&format!("{size}/{name}"), value);
            }
        }
        match check_enabled(source, folder.path()) {
            Ok(()) => false,
            Err(Refusal::HugePagesDisabled { value, .. }) => {
                assert_eq!(value, global);
                true
            }
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn advice_counts_where_some_size_is_given_on_request() {
        let table = [
            (PageSource::Anonymous, "madvise", None, false),
            (PageSource::Anonymous, "always", None, false),
            (PageSource::Anonymous, "never", None, true),
            (
                PageSource::Anonymous,
                "madvise",
                Some(["never", "inherit"]),
                false,
            ),
            (
                PageSource::Anonymous,
                "madvise",
                Some(["never", "never"]),
                true,
            ),
            (
                PageSource::Anonymous,
                "never",
                Some(["inherit", "inherit"]),
                true,
            ),
            (
                PageSource::Anonymous,
                "never",
                Some(["madvise", "inherit"]),
                false,
            ),
            (PageSource::MemoryFile, "advise", None, false),
            (PageSource::MemoryFile, "never", None, true),
            (
                PageSource::MemoryFile,
                "never",
                Some(["advise", "never"]),
                false,
            ),
            (
                PageSource::MemoryFile,
                "deny",
                Some(["always", "always"]),
                true,
            ),
            (
                PageSource::MemoryFile,
                "force",
                Some(["never", "never"]),
                false,
            ),
            (PageSource::File, "never", None, false),
        ];
        for (source, global, by_size, expected) in table {
            let answer = disabled(source, global, by_size);
            assert_eq!(answer, expected, "{source:?} {global} {by_size:?}");
        }
    }

    #[test]
    fn a_kernel_without_them_is_a_refusal_with_the_errno() {
        let folder = tempfile::tempdir().unwrap();
        let refusal = check_enabled(PageSource::Anonymous, folder.path()).unwrap_err();
        assert_eq!(refusal.errno(), Some(libc::ENOENT));
    }
}
