// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! All or nothing: what is prepared is committed or rolled back, whatever listeners do.

use std::any::Any;
use std::panic::{self, AssertUnwindSafe};

use guest_memory_core::{GuestMemoryRegion, GuestRegionCollection};

use super::HotplugError;
use super::listener::{ChangeKind, HotplugChange, HotplugListener};

type Listener<R> = Box<dyn HotplugListener<R> + Send>;
type Thrown = Box<dyn Any + Send>;

/// How a transaction failed.
pub(super) enum Failure {
    /// Nothing has changed.
    Refused(HotplugError),
    /// A listener panicked; the transaction was completed or undone nevertheless.
    Panicked(Thrown),
}

impl Failure {
    /// Makes the caller's error, or lets the panic go on; to be called with no lock held.
    pub(super) fn into_error(self) -> HotplugError {
        match self {
            Self::Refused(error) => error,
            Self::Panicked(thrown) => panic::resume_unwind(thrown),
        }
    }
}

/// The listeners in the order of registration, each with a number that no other had.
pub(super) struct Listeners<R> {
    list: Vec<(u64, Listener<R>)>,
    next_number: u64,
}

impl<R> Default for Listeners<R> {
    fn default() -> Self {
        Self {
            list: Vec::new(),
            next_number: 0,
        }
    }
}

impl<R: GuestMemoryRegion> Listeners<R> {
    pub(super) fn push(&mut self, listener: Listener<R>) -> u64 {
        let number = self.next_number;
        self.next_number = number.wrapping_add(1);
        self.list.push((number, listener));
        number
    }

    pub(super) fn remove(&mut self, number: u64) -> Option<Listener<R>> {
        let at = self.list.iter().position(|(other, _)| *other == number)?;
        Some(self.list.remove(at).1)
    }

    /// Prepares all, swaps, commits all; or rolls back those that prepared.
    pub(super) fn run(
        &mut self,
        change: &HotplugChange<'_, R>,
        swap: impl FnOnce(),
    ) -> Result<(), Failure> {
        let listeners = self.list.iter_mut().map(|(_, listener)| listener);
        let mut in_order: Vec<&mut Listener<R>> = match change.kind() {
            ChangeKind::Plug => listeners.collect(),
            ChangeKind::Unplug => listeners.rev().collect(),
        };
        for number in 0..in_order.len() {
            let (prepared, rest) = in_order.split_at_mut(number);
            let Some(listener) = rest.first_mut() else {
                break;
            };
            if let Err(failure) = prepare(&mut ***listener, change) {
                let undo = prepared.iter_mut().rev();
                let thrown = each(undo, |listener| listener.rollback(change));
                return Err(thrown.map_or(failure, Failure::Panicked));
            }
        }
        swap();
        let thrown = each(in_order.iter_mut(), |listener| listener.commit(change));
        thrown.map_or(Ok(()), |thrown| Err(Failure::Panicked(thrown)))
    }
}

/// Plugs all regions of a map into a new listener, or none.
pub(super) fn introduce<R: GuestMemoryRegion>(
    listener: &mut (dyn HotplugListener<R> + Send),
    map: &GuestRegionCollection<R>,
) -> Result<(), Failure> {
    let changes: Vec<HotplugChange<'_, R>> = map
        .arc_regions()
        .map(|region| HotplugChange::new(ChangeKind::Plug, region, map, map))
        .collect();
    for (number, change) in changes.iter().enumerate() {
        if let Err(failure) = prepare(listener, change) {
            let undo = changes.iter().take(number).rev();
            let thrown = each(undo, |change| listener.rollback(change));
            return Err(thrown.map_or(failure, Failure::Panicked));
        }
    }
    let thrown = each(changes.iter(), |change| listener.commit(change));
    thrown.map_or(Ok(()), |thrown| Err(Failure::Panicked(thrown)))
}

fn prepare<R: GuestMemoryRegion>(
    listener: &mut (dyn HotplugListener<R> + Send),
    change: &HotplugChange<'_, R>,
) -> Result<(), Failure> {
    let prepared = catch(|| {
        let result = listener.prepare(change);
        // The name within too: it is the listener's code.
        result.map_err(|source| HotplugError::Refused {
            listener: listener.name(),
            kind: change.kind(),
            start: change.start_addr(),
            len: change.len(),
            source,
        })
    });
    match prepared {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(Failure::Refused(error)),
        Err(thrown) => Err(Failure::Panicked(thrown)),
    }
}

/// Does all steps, even after a panic; returns the first.
fn each<T>(items: impl Iterator<Item = T>, mut step: impl FnMut(T)) -> Option<Thrown> {
    let mut first = None;
    for item in items {
        if let Err(thrown) = catch(|| step(item)) {
            first.get_or_insert(thrown);
        }
    }
    first
}

fn catch<T>(run: impl FnOnce() -> T) -> Result<T, Thrown> {
    // What a panic leaves half done is the listener's own state, which nobody else looks at.
    panic::catch_unwind(AssertUnwindSafe(run))
}
