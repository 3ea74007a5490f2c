// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The buffers that copies begin or end in.

use std::ops::{Deref, DerefMut};

/// What a buffer is aligned to, in bytes.
const PAGE: usize = 4096;

/// Bytes at the start of a page: no side of a case is lucky with where its buffer lies.
#[derive(Debug)]
pub struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    len_bytes: usize,
}

impl Buffer {
    /// Makes a buffer of so many bytes, all of them touched.
    pub fn new(len_bytes: usize) -> Self {
        let bytes = vec![1; len_bytes + PAGE];
        let start = bytes.as_ptr().align_offset(PAGE);
        Self {
            bytes,
            start,
            len_bytes,
        }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[self.start..][..self.len_bytes]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..][..self.len_bytes]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_begin_with_a_page() {
        for len_bytes in [0, 1, 60, 5000] {
            let mut buffer = Buffer::new(len_bytes);
            assert_eq!(buffer.len(), len_bytes);
            assert!(buffer.as_mut_ptr().addr().is_multiple_of(PAGE));
        }
    }
}
