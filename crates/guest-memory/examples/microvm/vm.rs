// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The virtual machine: memory slots and their dirty logs, one vCPU, and the loop that serves its exits.

#![expect(
    unsafe_code,
    reason = "KVM is told where guest memory lies in this process"
)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use guest_memory::bitmap::{GuestDirtyPages, MemorySlot};
use guest_memory::{GuestAddress, GuestMemoryRegion};
use kvm_bindings::{
    KVM_MAX_CPUID_ENTRIES, KVM_MEM_LOG_DIRTY_PAGES, KVM_MEM_READONLY, kvm_pit_config,
    kvm_userspace_memory_region,
};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd, VmFd};

use crate::cpu_state::CpuState;
use crate::failure::Failure;
use crate::layout::{Layout, PAGE_SIZE, Region, is_read_only, no_pages};

/// Where KVM keeps three pages of its own on Intel processors: below every firmware image, above all devices.
const TSS_ADDRESS: usize = 0xfeff_d000;
/// Where KVM keeps a page table of its own on Intel processors.
const IDENTITY_MAP_ADDRESS: u64 = 0xfeff_c000;

/// What a guest reaches outside its memory.
pub(crate) trait Bus {
    /// Takes what the guest writes to a port, a byte at a time.
    fn write_port(&mut self, port: u16, byte: u8) -> Result<Flow, Failure>;

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
    /// It was told to: its time was up, or somebody wanted it to.
    Kicked,
    /// It crashed (a triple fault).
    Crashed,
}

/// One memory slot of KVM.
#[derive(Debug)]
struct Slot {
    number: u32,
    region: Arc<Region>,
}

/// What KVM logged of one slot.
#[derive(Debug)]
pub(crate) struct SlotLog {
    /// Where the slot was.
    pub(crate) slot: MemorySlot,
    /// A bit per page.
    pub(crate) words: Vec<u64>,
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
    table: Mutex<Vec<Slot>>,
    /// The logs of removed slots.
    removed: Mutex<Vec<SlotLog>>,
    /// Whether KVM logs what the guest writes.
    is_logging: AtomicBool,
}

/// A virtual machine with one vCPU.
///
/// # Invariants
/// `vcpu` is declared before `slots`: KVM lets go of a machine with its last descriptor, so both are
/// closed before a region of a slot is unmapped.
#[derive(Debug)]
pub(crate) struct Machine {
    vcpu: VcpuFd,
    slots: Arc<Slots>,
}

impl SlotLog {
    /// Returns the pages that are logged, as a set.
    pub(crate) fn pages(&self) -> GuestDirtyPages {
        let len_bytes = usize::try_from(self.slot.len_bytes).unwrap_or(usize::MAX);
        let mut pages = no_pages(len_bytes);
        pages.insert_words(self.words.iter().copied());
        GuestDirtyPages::from_regions([(self.slot.start, pages)])
    }
}

impl Slots {
    /// Gives a region to the guest.
    ///
    /// A region that is mapped read-only becomes a read-only slot.
    pub(crate) fn insert(&self, region: Arc<Region>) -> Result<u32, Failure> {
        let mut table = lock(&self.table);
        let is_used = |number: &u32| table.iter().any(|slot| slot.number == *number);
        let number = (0..u32::MAX)
            .find(|number| !is_used(number))
            .unwrap_or(u32::MAX);
        self.set(number, &region, region.len()).map_err(|error| {
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
        let mut table = lock(&self.table);
        let index = table
            .iter()
            .position(|slot| slot.region.start_addr() == start)
            .ok_or_else(|| Failure::run(format!("no slot starts at {:#x}", start.0)))?;
        let Slot { number, region } = &table[index];
        let log = self.log(*number, region)?;
        self.set(*number, region, 0).map_err(|error| {
            Failure::run(format!(
                "KVM does not give up the memory at {:#x}: {error}",
                start.0
            ))
        })?;
        lock(&self.removed).extend(log);
        Ok(table.swap_remove(index).region)
    }

    /// Returns the number of the slot that holds a region.
    pub(crate) fn number(&self, region: &Region) -> Option<u32> {
        lock(&self.table)
            .iter()
            .find(|slot| std::ptr::eq(&*slot.region, region))
            .map(|slot| slot.number)
    }

    /// Makes KVM log from now on what the guest writes.
    pub(crate) fn start_logging(&self) -> Result<(), Failure> {
        let table = lock(&self.table);
        self.is_logging.store(true, Ordering::Relaxed);
        for Slot { number, region } in table.iter().filter(|slot| !is_read_only(&slot.region)) {
            // Only the flags of a slot change: the guest may run meanwhile. KVM waits until no vCPU uses the old ones, on a
            // busy host for seconds.
            self.set(*number, region, region.len()).map_err(|error| {
                Failure::run(format!("KVM does not log writes to slot {number}: {error}"))
            })?;
        }
        Ok(())
    }

    /// Takes what KVM has logged since the last call.
    pub(crate) fn take_logs(&self) -> Result<Vec<SlotLog>, Failure> {
        let mut logs = std::mem::take(&mut *lock(&self.removed));
        for Slot { number, region } in lock(&self.table).iter() {
            logs.extend(self.log(*number, region)?);
        }
        Ok(logs)
    }

    fn log(&self, number: u32, region: &Region) -> Result<Option<SlotLog>, Failure> {
        if is_read_only(region) || !self.is_logging.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let words = self
            .fd
            .get_dirty_log(number, region.size())
            .map_err(|error| {
                Failure::run(format!("KVM has no dirty log of slot {number}: {error}"))
            })?;
        let slot = MemorySlot {
            start: region.start_addr(),
            len_bytes: region.len(),
            page_size: PAGE_SIZE,
        };
        Ok(Some(SlotLog { slot, words }))
    }

    /// Sets a slot; length 0 removes it.
    fn set(&self, slot: u32, region: &Region, len_bytes: u64) -> Result<(), kvm_ioctls::Error> {
        let mut flags = 0;
        if is_read_only(region) {
            flags |= KVM_MEM_READONLY;
        } else if self.is_logging.load(Ordering::Relaxed) {
            flags |= KVM_MEM_LOG_DIRTY_PAGES;
        }
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
    pub(crate) fn new(kvm: &Kvm, layout: &Layout, has_chipset: bool) -> Result<Self, Failure> {
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
            table: Mutex::default(),
            removed: Mutex::default(),
            is_logging: AtomicBool::new(false),
        };
        for region in layout.regions() {
            slots.insert(Arc::clone(region))?;
        }
        // The reset state of a vCPU is what the hardware has: real mode, the last 16 bytes below 4 GiB.
        let vcpu = slots.fd.create_vcpu(0).map_err(setup("create a vCPU"))?;
        let cpuid = kvm
            .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
            .map_err(setup("tell its CPUID"))?;
        vcpu.set_cpuid2(&cpuid).map_err(setup("set CPUID"))?;
        Ok(Machine {
            vcpu,
            slots: Arc::new(slots),
        })
    }

    /// Returns the memory slots.
    pub(crate) fn slots(&self) -> &Arc<Slots> {
        &self.slots
    }

    /// Returns the state of the vCPU.
    pub(crate) fn state(&self, kvm: &Kvm) -> Result<CpuState, Failure> {
        CpuState::of(&self.vcpu, kvm)
    }

    /// Gives the vCPU the state that another one had.
    pub(crate) fn set_state(&self, state: &CpuState) -> Result<(), Failure> {
        state.give(&self.vcpu)
    }

    /// Runs the guest until it halts, a device stops it, or `is_stopped` becomes true (and the thread is kicked).
    pub(crate) fn run(
        &mut self,
        bus: &mut dyn Bus,
        is_stopped: &AtomicBool,
    ) -> Result<End, Failure> {
        loop {
            // Even then KVM is entered once more, though not the guest: KVM finishes an instruction that asked for
            // a device only then, and until it has, the state of the vCPU is not worth taking.
            let is_last = is_stopped.load(Ordering::Relaxed);
            self.vcpu.set_kvm_immediate_exit(u8::from(is_last));
            match self.vcpu.run() {
                Ok(VcpuExit::IoOut(port, bytes)) => {
                    for &byte in bytes {
                        if bus.write_port(port, byte)? == Flow::Stop {
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
                Err(error) if is_last && error.errno() == libc::EINTR => return Ok(End::Kicked),
                Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => {}
                Err(error) => {
                    return Err(Failure::run(format!("KVM cannot run the guest: {error}")));
                }
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
