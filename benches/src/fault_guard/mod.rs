// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The fault guard, if it is to be measured.

#[cfg(feature = "fault-guard")]
mod built_in;
#[cfg(not(feature = "fault-guard"))]
mod left_out;

#[cfg(feature = "fault-guard")]
pub use built_in::prepare;
#[cfg(not(feature = "fault-guard"))]
pub use left_out::prepare;
