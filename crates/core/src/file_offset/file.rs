// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A file and a position in it.

use alloc::sync::Arc;
use std::fs::File;

/// A file that backs a region, and where in it the region starts.
#[derive(Clone, Debug)]
pub struct FileOffset {
    file: Arc<File>,
    start: u64,
}

impl FileOffset {
    /// Makes one of a file and the region's start in it, in bytes.
    pub fn new(file: File, start: u64) -> Self {
        Self::from_arc(Arc::new(file), start)
    }

    /// Makes one of a shared file and the region's start in it, in bytes.
    pub fn from_arc(file: Arc<File>, start: u64) -> Self {
        Self { file, start }
    }

    /// Returns the file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Returns the file as it is shared.
    pub fn arc(&self) -> &Arc<File> {
        &self.file
    }

    /// Returns where in the file the region starts, in bytes.
    pub fn start(&self) -> u64 {
        self.start
    }
}
