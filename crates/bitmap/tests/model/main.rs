// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The protocol between writers and harvesters, explored exhaustively on machines with store buffers.
//!
//! The bitmap's fast path leaves out the full fence between storing data and loading the page's bit; the
//! harvester makes up for it with a barrier that every thread of the process passes. Tools that explore
//! threads know no such barrier, so this is a small one of our own:
//!
//! * [`machine`]: threads are little programs over shared locations. Each has a store buffer, as the
//!   processors of the x86 family have: plain stores wait in it and reach memory in order, at any moment; the
//!   thread's own loads see them at once. Locked operations and fences empty the own buffer first, the
//!   process-wide barrier empties all of them.
//! * [`explore`]: every interleaving of the threads' steps and of the buffers' flushes, depth first; states
//!   seen before are not entered again.
//! * [`ledger`]: what was promised. When a harvest starts, the writes that finished are remembered; when the
//!   copy after it is done, it must be as new as they are.
//! * [`protocol`]: marking and harvesting, in the right form and in the wrong ones.
//!
//! The other modules hold the scenarios. Half of them are wrong on purpose: a model that cannot fail proves
//! nothing. What it does not cover are processors that reorder more than a store and a later load; the
//! orderings for those are loom's business, in `tests/loom.rs`.

mod explore;
mod ledger;
mod machine;
mod protocol;

mod barriers;
mod external_log;
mod harvesters;
mod readers;
mod summary;
mod switching;
