// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! One builder for each source of memory, and file systems that this machine does not have mounted.
#![expect(unsafe_code, reason = "mounts file systems")]

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use guest_memory_bitmap::{AtomicBitmap, Bitmap};
use guest_memory_core::FileOffset;
use guest_memory_mmap::{MmapRegion, MmapRegionBuilder};
use guest_memory_volatile::VolatileMemory;

use crate::files::{BIG_PAGE, file_of};

/// What the files of [`Source`]s hold before anybody writes to the region.
pub(crate) const FILE_BYTE: u8 = 0x11;

/// Where memory of small pages comes from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Source {
    Anonymous,
    SharedAnonymous,
    MemoryFile,
    PrivateMemoryFile,
    SharedFile,
    PrivateFile,
}

pub(crate) const SOURCES: [Source; 6] = [
    Source::Anonymous,
    Source::SharedAnonymous,
    Source::MemoryFile,
    Source::PrivateMemoryFile,
    Source::SharedFile,
    Source::PrivateFile,
];

impl Source {
    /// Says whether the region is a private mapping of a file.
    pub(crate) fn is_private_file(self) -> bool {
        matches!(self, Self::PrivateMemoryFile | Self::PrivateFile)
    }

    /// Makes a region of `size` bytes; a file starts before it and is a hole.
    pub(crate) fn region(self, size: usize) -> MmapRegion<AtomicBitmap> {
        let builder = MmapRegionBuilder::new(size);
        let builder = match self {
            Self::Anonymous => builder,
            Self::SharedAnonymous => builder
                .with_mmap_flags(libc::MAP_ANONYMOUS | libc::MAP_SHARED | libc::MAP_NORESERVE),
            Self::MemoryFile => builder.with_memfd("source"),
            Self::PrivateMemoryFile => {
                let maker = MmapRegionBuilder::<()>::new(size + BIG_PAGE).with_memfd("source");
                let maker = maker.build().expect("a memory file");
                let file = maker.file_offset().expect("its file").arc();
                builder
                    .with_file_offset(FileOffset::from_arc(file.clone(), BIG_PAGE as u64))
                    .with_mmap_flags(libc::MAP_PRIVATE)
            }
            Self::SharedFile | Self::PrivateFile => {
                let file = file_of((size + BIG_PAGE) as u64);
                let builder = builder.with_file_offset(FileOffset::new(file, BIG_PAGE as u64));
                if self == Self::PrivateFile {
                    builder.with_mmap_flags(libc::MAP_PRIVATE)
                } else {
                    builder
                }
            }
        };
        builder.build().expect("a region")
    }

    /// Likewise, with bytes of [`FILE_BYTE`] in the file of a private mapping, if that is what it is.
    pub(crate) fn region_over_content(self, size: usize) -> MmapRegion<AtomicBitmap> {
        let region = self.region(size);
        if self.is_private_file() {
            let offset = region.file_offset().expect("a file");
            let bytes = vec![FILE_BYTE; size];
            let written = offset.file().write_all_at(&bytes, offset.start());
            written.expect("a write to the file");
        }
        region
    }
}

/// Returns all bytes of a region.
pub(crate) fn bytes_of(region: &MmapRegion<impl Bitmap>) -> Vec<u8> {
    let mut bytes = vec![0; region.size()];
    let read = region.as_volatile_slice().read_slice(&mut bytes, 0);
    read.expect("a read");
    bytes
}

/// Makes a file on a file system of its own, which goes away with the file.
pub(crate) fn file_on(file_system: &str, options: &str) -> Result<File, String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let path = CString::new(folder.path().as_os_str().as_encoded_bytes()).expect("no zero in it");
    let file_system = CString::new(file_system).expect("no zero in it");
    let options = CString::new(options).expect("no zero in it");
    let (source, target) = (file_system.as_ptr(), path.as_ptr());
    // SAFETY: all pointers are to strings that end in a zero.
    let status = unsafe { libc::mount(source, target, source, 0, options.as_ptr().cast()) };
    if status != 0 {
        let error = io::Error::last_os_error();
        return Err(format!("cannot mount a {file_system:?}: {error}"));
    }
    let path_of_file = folder.path().join("file");
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(path_of_file);
    // It stays for whoever has a file of it open.
    // SAFETY: the pointer is to a string that ends in a zero.
    let status = unsafe { libc::umount2(target, libc::MNT_DETACH) };
    assert_eq!(status, 0, "{}", io::Error::last_os_error());
    file.map_err(|error| error.to_string())
}

/// Returns the bytes of the disk, or of memory for a memory file, that a file takes.
pub(crate) fn allocated(file: &File) -> usize {
    use std::os::unix::fs::MetadataExt;
    let blocks = file.metadata().expect("its metadata").blocks();
    usize::try_from(blocks).expect("a small file") * 512
}
