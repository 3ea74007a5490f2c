// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The public interface: every default of the traits, and accesses that do not fit.
#![cfg(feature = "std")]
#![expect(
    clippy::unwrap_used,
    reason = "a test fails where it unwraps; clippy.toml does not reach helpers"
)]

mod access;
mod bytes_ext;
mod collection;
mod dirty;
mod foreign;
mod region_defaults;
mod stream_batches;
mod streams;
mod toy;
