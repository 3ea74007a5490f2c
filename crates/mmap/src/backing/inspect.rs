// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What can be said of a backing before anything is opened for good or made.

use std::fmt;
use std::fs::{self, File};
use std::path::Path;

use super::{Backing, base_page_size, hugetlb, shm};
use crate::{Protection, Sharing, ShmObject};

/// A part of a backing's description that is not valid here: which, what it says, what would be valid.
type Problem = (&'static str, String, String);

impl Backing {
    /// Returns the size of the pool's pages that the backing takes, in bytes, if it takes any.
    pub(crate) fn huge_page_size(&self) -> Option<usize> {
        match self {
            Self::Anonymous { huge_pages, .. } | Self::Memfd { huge_pages, .. } => {
                huge_pages.map(|page_size| page_size.size_bytes())
            }
            Self::HugetlbFile { directory } => hugetlbfs_page_size(directory),
            // One that will be made is where its directory is.
            Self::File { path, .. } => hugetlbfs_page_size(path)
                .or_else(|| hugetlbfs_page_size(path.parent().filter(|_| !path.exists())?)),
            Self::Shm { .. } | Self::Dax { .. } => None,
        }
    }

    /// Returns what is not valid, or not there, for `size` bytes.
    pub(crate) fn problems(&self, size: usize, protection: Protection) -> Vec<Problem> {
        let mut problems = Vec::new();
        match self {
            Self::Anonymous { .. } => {}
            Self::Memfd { name, .. } => {
                if name.len() > 249 || name.contains('\0') {
                    let valid = "at most 249 bytes without a zero";
                    problems.push(("name", format!("{name:?}"), valid.to_owned()));
                }
            }
            Self::HugetlbFile { directory } => {
                if hugetlbfs_page_size(directory).is_none() {
                    let value = directory.display().to_string();
                    problems.push(("directory", value, "a directory on hugetlbfs".to_owned()));
                }
            }
            Self::File {
                path,
                offset,
                sharing,
                grow,
            } => {
                let needs_write =
                    *grow || (*sharing == Sharing::Shared && protection.is_writable());
                problems.extend(file_problems(path, *offset, size, *grow, needs_write));
            }
            Self::Shm { name, object } => {
                let path = format!("/dev/shm{name}");
                let is_there = fs::exists(&path).unwrap_or(false);
                let valid = match object {
                    _ if !shm::is_valid(name) => {
                        Some("a slash and at most 254 further bytes, neither slash nor zero")
                    }
                    ShmObject::Open if !is_there => Some("an object that exists"),
                    ShmObject::Create | ShmObject::CreateUnlinked if is_there => {
                        Some("a name that nobody has yet")
                    }
                    _ => None,
                };
                let valid = valid.map(str::to_owned);
                problems.extend(valid.map(|valid| ("name", format!("{name:?}"), valid)));
            }
            Self::Dax { path, .. } => {
                if !fs::exists(path).unwrap_or(false) {
                    let value = path.display().to_string();
                    problems.push(("path", value, "a device of memory, /dev/dax*".to_owned()));
                }
            }
        }
        if let Some(page_size) = self.huge_page_size() {
            if let Err(error) = hugetlb::check_supported(page_size) {
                problems.push((
                    "huge pages",
                    format!("of {page_size} bytes"),
                    error.to_string(),
                ));
            }
            if !size.is_multiple_of(page_size) {
                problems.push((
                    "size",
                    size.to_string(),
                    format!("a multiple of {page_size} bytes"),
                ));
            }
        }
        problems
    }
}

fn hugetlbfs_page_size(directory: &Path) -> Option<usize> {
    hugetlb::page_size_of(&File::open(directory).ok()?).ok()?
}

fn file_problems(
    path: &Path,
    offset: u64,
    size: usize,
    grow: bool,
    needs_write: bool,
) -> Vec<Problem> {
    let mut problems = Vec::new();
    let named = || path.display().to_string();
    let opened = File::options().read(true).write(needs_write).open(path);
    let file = match opened {
        Ok(file) => Some(file),
        Err(error) => {
            let has_directory = path
                .parent()
                .is_some_and(|parent| parent.as_os_str().is_empty() || parent.is_dir());
            let can_be_made = grow && has_directory && error.kind() == std::io::ErrorKind::NotFound;
            if !can_be_made {
                let access = if needs_write { " and written" } else { "" };
                let valid = format!("a file that can be read{access} ({error})");
                problems.push(("path", named(), valid));
            }
            None
        }
    };
    let huge_page = file.as_ref().map(hugetlb::page_size_of);
    let page_size = match huge_page {
        Some(Ok(Some(page_size))) => page_size,
        _ => base_page_size().unwrap_or(1),
    };
    if !usize::try_from(offset).is_ok_and(|offset| offset.is_multiple_of(page_size)) {
        let valid = format!("a multiple of {page_size} bytes");
        problems.push(("offset", offset.to_string(), valid));
    } else if grow && !is_within_a_file(offset, size) {
        let valid = format!("at most {} bytes less the size", i64::MAX);
        problems.push(("offset", offset.to_string(), valid));
    }
    let metadata = file.and_then(|file| file.metadata().ok());
    if let Some(metadata) = metadata.filter(|metadata| metadata.is_file() && !grow) {
        let room = metadata.len().saturating_sub(offset);
        if u64::try_from(size).is_ok_and(|size| size > room) {
            let valid = format!(
                "at most {room} bytes from there to the end of {}, unless it may grow",
                named()
            );
            problems.push(("size", size.to_string(), valid));
        }
    }
    problems
}

/// Says whether a file can be so long that it holds `size` bytes from the offset on. A size that nothing can have is
/// for others to find.
fn is_within_a_file(offset: u64, size: usize) -> bool {
    let Ok(size) = i64::try_from(size) else {
        return true;
    };
    i64::try_from(offset).is_ok_and(|offset| offset.checked_add(size).is_some())
}

/// As a plan shows it.
impl fmt::Display for Backing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous { sharing, .. } => write!(f, "{sharing} anonymous memory")?,
            Self::Memfd { name, seals, .. } => {
                write!(f, "a memory file {name:?} sealed against {seals}")?;
            }
            Self::HugetlbFile { directory } => write!(f, "a file in {}", directory.display())?,
            Self::File {
                path,
                offset,
                sharing,
                ..
            } => write!(f, "{} at {offset:#x}, {sharing}", path.display())?,
            Self::Shm { name, .. } => write!(f, "the shared memory object {name:?}")?,
            Self::Dax { path, offset } => {
                write!(f, "the device {} at {offset:#x}", path.display())?
            }
        }
        match self {
            Self::Anonymous {
                huge_pages: Some(page_size),
                ..
            }
            | Self::Memfd {
                huge_pages: Some(page_size),
                ..
            } => write!(f, ", huge pages of {page_size}"),
            _ => Ok(()),
        }
    }
}
