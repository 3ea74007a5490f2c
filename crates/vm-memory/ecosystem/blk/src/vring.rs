// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A queue as the daemon holds it.

use std::fmt;
use std::fs::File;
use std::io;
use std::sync::MutexGuard;

use vhost_user_backend::{VringMutex, VringState, VringStateGuard, VringStateMutGuard, VringT};
use virtio_queue::{Error, QueueT};
use vm_memory::GuestAddressSpace;

/// A [`VringMutex`] that is not disturbed at work.
///
/// A front end that begins to log tells the addresses of the rings once more, with a flag. The daemon then reads the used
/// index out of the ring and sets it, in two steps: what a running queue has answered in between would be lost.
#[derive(Clone)]
pub struct Vring<M: GuestAddressSpace>(VringMutex<M>);

impl<M: GuestAddressSpace> fmt::Debug for Vring<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vring").finish_non_exhaustive()
    }
}

impl<'a, M: GuestAddressSpace + 'a> VringStateGuard<'a, M> for Vring<M> {
    type G = MutexGuard<'a, VringState<M>>;
}

impl<'a, M: GuestAddressSpace + 'a> VringStateMutGuard<'a, M> for Vring<M> {
    type G = MutexGuard<'a, VringState<M>>;
}

impl<M: GuestAddressSpace + 'static> VringT<M> for Vring<M> {
    fn new(memory: M, max_queue_size: u16) -> Result<Self, Error> {
        VringMutex::new(memory, max_queue_size).map(Self)
    }

    fn get_ref(&self) -> MutexGuard<'_, VringState<M>> {
        self.0.get_ref()
    }

    fn get_mut(&self) -> MutexGuard<'_, VringState<M>> {
        self.0.get_mut()
    }

    fn set_queue_next_used(&self, index: u16) {
        let mut state = self.0.get_mut();
        let queue = state.get_queue_mut();
        if !queue.ready() {
            queue.set_next_used(index);
        }
    }

    // Everything else is handed on.

    fn add_used(&self, head: u16, written_bytes: u32) -> Result<(), Error> {
        self.0.add_used(head, written_bytes)
    }

    fn signal_used_queue(&self) -> io::Result<()> {
        self.0.signal_used_queue()
    }

    fn enable_notification(&self) -> Result<bool, Error> {
        self.0.enable_notification()
    }

    fn disable_notification(&self) -> Result<(), Error> {
        self.0.disable_notification()
    }

    fn needs_notification(&self) -> Result<bool, Error> {
        self.0.needs_notification()
    }

    fn set_enabled(&self, is_enabled: bool) {
        self.0.set_enabled(is_enabled);
    }

    fn set_queue_info(&self, descriptors: u64, available: u64, used: u64) -> Result<(), Error> {
        self.0.set_queue_info(descriptors, available, used)
    }

    fn queue_next_avail(&self) -> u16 {
        self.0.queue_next_avail()
    }

    fn set_queue_next_avail(&self, index: u16) {
        self.0.set_queue_next_avail(index);
    }

    fn queue_used_idx(&self) -> Result<u16, Error> {
        self.0.queue_used_idx()
    }

    fn set_queue_size(&self, size: u16) {
        self.0.set_queue_size(size);
    }

    fn set_queue_event_idx(&self, has_event_idx: bool) {
        self.0.set_queue_event_idx(has_event_idx);
    }

    fn set_queue_ready(&self, is_ready: bool) {
        self.0.set_queue_ready(is_ready);
    }

    fn set_kick(&self, event: Option<File>) {
        self.0.set_kick(event);
    }

    fn read_kick(&self) -> io::Result<bool> {
        self.0.read_kick()
    }

    fn set_call(&self, event: Option<File>) {
        self.0.set_call(event);
    }

    fn set_err(&self, event: Option<File>) {
        self.0.set_err(event);
    }
}
