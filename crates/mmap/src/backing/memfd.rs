// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A memory file, by default one that nobody can resize: whoever gets the descriptor cannot pull pages from under us.

use std::io;

use guest_memory_core::FileOffset;
use memfd::{HugetlbSize, MemfdOptions};

use super::file::writable_len;
use crate::Seals;
use crate::error::MmapRegionError;

/// Makes a memory file of `size` bytes, closed on exec, with the given seals.
pub(crate) fn create(
    name: &str,
    size: usize,
    huge_pages: Option<HugetlbSize>,
    seals: Seals,
) -> Result<FileOffset, MmapRegionError> {
    let failed = |operation| move |source| MmapRegionError::MemoryFile { operation, source };
    let options = MemfdOptions::new()
        .close_on_exec(true)
        .allow_sealing(true)
        .hugetlb(huge_pages);
    let memory_file = options
        .create(name)
        .map_err(errno)
        .map_err(failed("create"))?;
    let len_bytes = writable_len(size)?;
    memory_file
        .as_file()
        .set_len(len_bytes)
        .map_err(failed("resize"))?;
    memory_file
        .add_seals(&seals.to_list())
        .map_err(errno)
        .map_err(failed("seal"))?;
    Ok(FileOffset::new(memory_file.into_file(), 0))
}

fn errno(error: memfd::Error) -> io::Error {
    match error {
        memfd::Error::Create(error)
        | memfd::Error::AddSeals(error)
        | memfd::Error::GetSeals(error) => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::fd::AsRawFd;

    #[test]
    fn nobody_can_shrink_or_grow_the_file() {
        let file_offset = create("sealed", 8192, None, Seals::ALL).unwrap();
        let file = file_offset.file();
        assert_eq!(file.metadata().unwrap().len(), 8192);
        for len_bytes in [4096, 16384] {
            let error = file.set_len(len_bytes).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EPERM));
        }
    }

    #[test]
    fn the_descriptor_is_closed_on_exec() {
        let file_offset = create("cloexec", 4096, None, Seals::ALL).unwrap();
        let path = format!("/proc/self/fdinfo/{}", file_offset.file().as_raw_fd());
        let info = fs::read_to_string(path).unwrap();
        let flags = info
            .lines()
            .find_map(|line| line.strip_prefix("flags:"))
            .unwrap();
        let flags = i32::from_str_radix(flags.trim(), 8).unwrap();
        assert_eq!(flags & libc::O_CLOEXEC, libc::O_CLOEXEC);
    }

    #[test]
    fn a_name_with_a_nul_byte_is_refused_with_the_errno() {
        let error = create("a\0b", 4096, None, Seals::ALL).unwrap_err();
        let MmapRegionError::MemoryFile {
            operation: "create",
            source,
        } = error
        else {
            panic!("unexpected {error:?}");
        };
        assert_eq!(source.raw_os_error(), Some(libc::EINVAL));
    }
}
