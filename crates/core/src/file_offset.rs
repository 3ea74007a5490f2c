// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The file behind a region, where there are files.

#[cfg(feature = "std")]
mod file;
#[cfg(not(feature = "std"))]
mod none;

#[cfg(feature = "std")]
pub use file::FileOffset;
#[cfg(not(feature = "std"))]
pub use none::FileOffset;
