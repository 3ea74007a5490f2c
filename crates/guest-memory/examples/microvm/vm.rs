// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The virtual machine: memory slots, one vCPU, and the loop that serves its exits.

#![expect(
    unsafe_code,
    reason = "KVM is told where guest memory lies in this process"
)]

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use guest_memory::{GuestAddress, GuestMemoryRegion};
use kvm_bindings::{
    KVM_MAX_CPUID_ENTRIES, KVM_MEM_LOG_DIRTY_PAGES, KVM_MEM_READONLY, kvm_pit_config,
    kvm_userspace_memory_region,
};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd, VmFd};

use crate::dirty::DirtyPages;
use crate::failure::Failure;
use crate::layout::{Region, Room, is_read_only};

/// Where KVM keeps three pages of its own on Intel processors: below every firmware image, above all devices.
const TSS_ADDRESS: usize = 0xfeff_d000;
/// Where KVM keeps a page table of its own on Intel processors.
const IDENTITY_MAP_ADDRESS: u64 = 0xfeff_c000;

/// What a guest reaches outside its memory.
pub(crate) trait Bus {
    /// Takes what the guest writes to a port, a byte at a time; `slots` are KVM's, if KVM runs the guest.
    fn write_port(&mut self, slots: Option<&Slots>, port: u16, byte: u8) -> Result<Flow, Failure>;

    /// Returns what the guest reads from a port; ports without a device read as ones.
    fn read_port(&mut self, _port: u16) -> u8 {
        0xff
    }

    /// Learns that the guest read an address without memory; it gets ones.
    fn note_unmapped_read(&mut self, _address: u64) {}

    /// Learns that the guest wrote an address without memory, or read-only memory; nothing is stored.
    fn note_unmapped_write(&mut self, _address: u64) {}
}

/// Whether the guest goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    /// It does.
    Continue,
    /// The monitor has seen enough.
    Stop,
}

/// Why the guest stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It executed HLT with nobody to wake it.
    Halted,
    /// A [`Bus`] said so.
    Stopped,
    /// Its time was up.
    TimedOut,
    /// It crashed (a triple fault).
    Crashed,
}

/// One memory slot of KVM.
#[derive(Debug)]
struct Slot {
    number: u32,
    region: Arc<Region>,
}

/// The memory slots of a virtual machine.
///
/// # Invariants
/// 1. Every slot that KVM knows is in `table`, with the region whose mapping KVM was given.
/// 2. `fd` is declared before `table`, so the regions go last.
/// 3. Others get shared references only, so that the slots of two machines cannot be swapped.
#[derive(Debug)]
pub(crate) struct Slots {
    fd: VmFd,
    table: RefCell<Vec<Slot>>,
    /// What the logs of removed slots held.
    removed: RefCell<DirtyPages>,
}

/// A virtual machine with one vCPU.
///
/// # Invariants
/// `vcpu` is declared before `slots`: KVM lets go of a machine with its last descriptor, so both are
/// closed before a region of a slot is unmapped.
#[derive(Debug)]
pub(crate) struct Machine {
    vcpu: VcpuFd,
    slots: Slots,
}

impl Slots {
    /// Gives a region to the guest, with dirty logging.
    ///
    /// A region that is mapped read-only becomes a read-only slot.
    pub(crate) fn insert(&self, region: Arc<Region>) -> Result<u32, Failure> {
        let mut table = self.table.borrow_mut();
        let is_used = |number: &u32| table.iter().any(|slot| slot.number == *number);
        let number = (0..u32::MAX)
            .find(|number| !is_used(number))
            .unwrap_or(u32::MAX);
        let access = if is_read_only(&region) {
            KVM_MEM_READONLY
        } else {
            0
        };
        self.set(
            number,
            &region,
            region.len(),
            KVM_MEM_LOG_DIRTY_PAGES | access,
        )
        .map_err(|error| {
            Failure::setup(format!(
                "KVM refuses memory at {:#x}: {error}",
                region.start_addr().0
            ))
        })?;
        table.push(Slot { number, region });
        Ok(number)
    }

    /// Takes a region away from the guest; what its log held is kept.
    pub(crate) fn remove(&self, start: GuestAddress) -> Result<Arc<Region>, Failure> {
        let mut table = self.table.borrow_mut();
        let index = table
            .iter()
            .position(|slot| slot.region.start_addr() == start)
            .ok_or_else(|| Failure::run(format!("no slot starts at {:#x}", start.0)))?;
        let Slot { number, region } = &table[index];
        let log = self.log(*number, region)?;
        self.set(*number, region, 0, 0).map_err(|error| {
            Failure::run(format!(
                "KVM does not give up the memory at {:#x}: {error}",
                start.0
            ))
        })?;
        self.removed.borrow_mut().insert_log(start, &log);
        Ok(table.swap_remove(index).region)
    }

    /// Returns the number of the slot that holds a region.
    pub(crate) fn number(&self, region: &Region) -> Option<u32> {
        let table = self.table.borrow();
        table
            .iter()
            .find(|slot| std::ptr::eq(&*slot.region, region))
            .map(|slot| slot.number)
    }

    /// Takes the pages that the guest wrote, as KVM has logged them.
    pub(crate) fn take_dirty(&self) -> Result<DirtyPages, Failure> {
        let mut pages = self.removed.take();
        for Slot { number, region } in self.table.borrow().iter() {
            pages.insert_log(region.start_addr(), &self.log(*number, region)?);
        }
        Ok(pages)
    }

    fn log(&self, number: u32, region: &Region) -> Result<Vec<u64>, Failure> {
        self.fd
            .get_dirty_log(number, region.size())
            .map_err(|error| {
                Failure::run(format!("KVM has no dirty log of slot {number}: {error}"))
            })
    }

    /// Sets a slot; length 0 removes it.
    fn set(
        &self,
        slot: u32,
        region: &Region,
        len_bytes: u64,
        flags: u32,
    ) -> Result<(), kvm_ioctls::Error> {
        let memory = kvm_userspace_memory_region {
            slot,
            flags,
            guest_phys_addr: region.start_addr().0,
            memory_size: len_bytes,
            userspace_addr: region.as_ptr() as u64,
        };
        // SAFETY:
        // - valid memory: the address and length are those of the region's own mapping (or length 0,
        //   which takes the slot away).
        // - as long as the kernel needs it: `insert` keeps the region's `Arc` in `self.table` until the
        //   slot is removed or, by the invariants of `Slots` and `Machine`, the machine is closed.
        // - no overlap: each slot has a mapping of its own, and KVM refuses overlapping guest addresses.
        unsafe { self.fd.set_user_memory_region(memory) }
    }
}

impl Machine {
    /// Creates a machine with the regions of a layout and a vCPU at its reset vector.
    ///
    /// With a chipset the kernel provides the interrupt controllers and the timer; without one HLT
    /// ends the run.
    pub(crate) fn new(kvm: &Kvm, rooms: &[Room], has_chipset: bool) -> Result<Self, Failure> {
        let setup = |what: &'static str| {
            move |error: kvm_ioctls::Error| Failure::setup(format!("KVM cannot {what}: {error}"))
        };
        let fd = kvm.create_vm().map_err(setup("create a virtual machine"))?;
        fd.set_identity_map_address(IDENTITY_MAP_ADDRESS)
            .map_err(setup("place its page table"))?;
        fd.set_tss_address(TSS_ADDRESS)
            .map_err(setup("place its task state"))?;
        if has_chipset {
            fd.create_irq_chip()
                .map_err(setup("create interrupt controllers"))?;
            fd.create_pit2(kvm_pit_config::default())
                .map_err(setup("create a timer"))?;
        }
        let slots = Slots {
            fd,
            table: RefCell::default(),
            removed: RefCell::default(),
        };
        for room in rooms {
            slots.insert(Arc::clone(&room.region))?;
        }
        // The reset state of a vCPU is what the hardware has: real mode, the last 16 bytes below 4 GiB.
        let vcpu = slots.fd.create_vcpu(0).map_err(setup("create a vCPU"))?;
        let cpuid = kvm
            .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
            .map_err(setup("tell its CPUID"))?;
        vcpu.set_cpuid2(&cpuid).map_err(setup("set CPUID"))?;
        Ok(Machine { vcpu, slots })
    }

    /// Returns the memory slots.
    pub(crate) fn slots(&self) -> &Slots {
        &self.slots
    }

    /// Runs the guest until it halts, a device stops it, or `is_expired` becomes true (and the thread is kicked).
    pub(crate) fn run(
        &mut self,
        bus: &mut dyn Bus,
        is_expired: &AtomicBool,
    ) -> Result<End, Failure> {
        while !is_expired.load(Ordering::Relaxed) {
            match self.vcpu.run() {
                Ok(VcpuExit::IoOut(port, bytes)) => {
                    for &byte in bytes {
                        if bus.write_port(Some(&self.slots), port, byte)? == Flow::Stop {
                            return Ok(End::Stopped);
                        }
                    }
                }
                Ok(VcpuExit::IoIn(port, bytes)) => bytes
                    .iter_mut()
                    .for_each(|byte| *byte = bus.read_port(port)),
                Ok(VcpuExit::MmioRead(address, bytes)) => {
                    bytes.fill(0xff);
                    bus.note_unmapped_read(address);
                }
                Ok(VcpuExit::MmioWrite(address, _)) => bus.note_unmapped_write(address),
                Ok(VcpuExit::Hlt) => return Ok(End::Halted),
                Ok(VcpuExit::Shutdown) => return Ok(End::Crashed),
                Ok(VcpuExit::Intr) => {}
                Ok(exit) => return Err(Failure::run(format!("the guest cannot go on: {exit:?}"))),
                Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => {}
                Err(error) => {
                    return Err(Failure::run(format!("KVM cannot run the guest: {error}")));
                }
            }
        }
        Ok(End::TimedOut)
    }
}
