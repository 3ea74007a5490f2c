// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The atomics this crate uses, in one place, so that a model checker's can stand in for them.

pub(crate) use core::sync::atomic::{AtomicU64, Ordering};
