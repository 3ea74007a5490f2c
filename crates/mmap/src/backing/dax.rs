// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Devices of memory (`/dev/dax*`): persistent memory, or memory set aside for a purpose.
//!
//! They are mapped shared, at multiples of an alignment of their own, which sysfs tells.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use guest_memory_core::FileOffset;

use super::{Prepared, file, file_by_path};
use crate::BackingKind;
use crate::error::MmapRegionError;

/// Where sysfs has devices by their number.
const CHARACTER_DEVICES: &str = "/sys/dev/char";

/// Opens a device and prepares `size` bytes of it.
pub(crate) fn prepare(
    path: &Path,
    offset: u64,
    size: usize,
    prot: i32,
) -> Result<Prepared, MmapRegionError> {
    let device = file_by_path::open(path, OpenOptions::new().read(true).write(true))?;
    let metadata = file::metadata(&device)?;
    let not_dax = || MmapRegionError::NotDax {
        path: path.to_owned(),
    };
    if !metadata.file_type().is_char_device() {
        return Err(not_dax());
    }
    let number = metadata.rdev();
    let folder = format!(
        "{CHARACTER_DEVICES}/{}:{}",
        libc::major(number),
        libc::minor(number)
    );
    let limits = Limits::read(Path::new(&folder)).ok_or_else(not_dax)?;
    limits.check(offset, size)?;
    let prepared = file::prepare(
        FileOffset::new(device, offset),
        size,
        Some(libc::MAP_SHARED),
        prot,
    )?;
    Ok(Prepared {
        page_size: limits.alignment,
        ..prepared.of_kind(BackingKind::Dax)
    })
}

/// What a device says of itself, in bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Limits {
    size: u64,
    alignment: usize,
}

impl Limits {
    /// Reads them from a device's folder; nothing if it is not that of a dax device.
    fn read(folder: &Path) -> Option<Self> {
        let subsystem = fs::canonicalize(folder.join("subsystem")).ok()?;
        if subsystem.file_name()? != "dax" {
            return None;
        }
        let read = |name: &str| number(folder.join(name));
        let alignment = usize::try_from(read("align").ok()?).ok()?;
        Some(Self {
            size: read("size").ok()?,
            alignment: Some(alignment).filter(|bytes| bytes.is_power_of_two())?,
        })
    }

    fn check(&self, offset: u64, size: usize) -> Result<(), MmapRegionError> {
        if !usize::try_from(offset).is_ok_and(|offset| offset.is_multiple_of(self.alignment)) {
            return Err(MmapRegionError::UnalignedFileOffset {
                file_offset: offset,
                page_size: self.alignment,
            });
        }
        if !size.is_multiple_of(self.alignment) {
            return Err(MmapRegionError::SizeNotMultiple {
                size,
                multiple: self.alignment,
            });
        }
        match file::end_of(offset, size) {
            Ok(end) if end <= self.size => Ok(()),
            _ => Err(MmapRegionError::MappingPastEof {
                file_offset: offset,
                size,
                file_len: self.size,
            }),
        }
    }
}

fn number(path: PathBuf) -> io::Result<u64> {
    let text = fs::read_to_string(path)?;
    text.trim().parse().map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_device_tells_its_size_and_alignment() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["dax", "other"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        fs::write(folder.path().join("align"), "2097152\n").unwrap();
        fs::write(folder.path().join("size"), "16777216\n").unwrap();
        symlink(folder.path().join("dax"), folder.path().join("subsystem")).unwrap();
        let limits = Limits::read(folder.path()).unwrap();
        assert_eq!((limits.size, limits.alignment), (16 << 20, 2 << 20));

        fs::remove_file(folder.path().join("subsystem")).unwrap();
        symlink(folder.path().join("other"), folder.path().join("subsystem")).unwrap();
        assert_eq!(Limits::read(folder.path()), None);
    }

    #[test]
    fn offset_and_size_are_multiples_of_the_alignment_within_the_device() {
        let limits = Limits {
            size: 16 << 20,
            alignment: 2 << 20,
        };
        assert!(limits.check(2 << 20, 14 << 20).is_ok());
        assert!(matches!(
            limits.check(4096, 2 << 20),
            Err(MmapRegionError::UnalignedFileOffset {
                page_size: 0x20_0000,
                ..
            })
        ));
        assert!(matches!(
            limits.check(0, 4096),
            Err(MmapRegionError::SizeNotMultiple { size: 4096, .. })
        ));
        for (offset, size) in [(0, 18 << 20), (!0x1f_ffff, 2 << 20)] {
            assert!(matches!(
                limits.check(offset, size),
                Err(MmapRegionError::MappingPastEof { .. })
            ));
        }
    }

    #[test]
    fn what_is_no_dax_device_is_refused() {
        for path in ["/dev/zero", "/proc/self/maps"] {
            // The second cannot be opened for writing by everybody.
            let error = prepare(Path::new(path), 0, 2 << 20, libc::PROT_READ).unwrap_err();
            assert!(matches!(
                error,
                MmapRegionError::NotDax { .. } | MmapRegionError::File { .. }
            ));
        }
    }
}
