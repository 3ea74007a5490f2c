// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A region's part of the log that a front end shares for a migration.
//!
//! There are two of one name; which one is built is decided here and nowhere else. With the feature `external-log` the
//! pages are marked by this repository's bitmaps, which `vm-memory` 0.18 does not have; without it by the daemon's own.

#[cfg(feature = "external-log")]
mod external;
#[cfg(not(feature = "external-log"))]
mod plain;

#[cfg(feature = "external-log")]
pub use external::SharedLog;
#[cfg(not(feature = "external-log"))]
pub use plain::SharedLog;
