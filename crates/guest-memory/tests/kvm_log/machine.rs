// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A virtual machine whose processor writes a word to each page of a list.
//!
//! It runs unprivileged: a KVM without the processor's help runs such code as it is and emulates the rest.

#![expect(
    unsafe_code,
    reason = "KVM is told where guest memory lies, and its dirty ring is mapped"
)]

use std::os::fd::AsRawFd;
use std::ptr::NonNull;

use guest_memory::bitmap::MemorySlots;
use guest_memory::{Bytes, GuestAddress, GuestMemory};
use kvm_bindings::{
    KVM_CAP_DIRTY_LOG_RING, KVM_DIRTY_LOG_PAGE_OFFSET, KVM_EXIT_DIRTY_RING_FULL,
    KVM_MEM_LOG_DIRTY_PAGES, kvm_enable_cap, kvm_regs, kvm_userspace_memory_region,
};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd, VmFd};

use crate::ring::Entry;
use crate::user_mode::enter_64_bit_mode;
use crate::{BOOT, GUEST_WORD, Memory, PAGE_BYTES};

/// `_IO(0xae, 0xc7)`: takes collected entries of all rings back.
const KVM_RESET_DIRTY_RINGS: libc::c_ulong = 0xaec7;

const CODE: GuestAddress = GuestAddress(0x1000);
/// One table each; together they map the first GiB to itself.
const PAGE_TABLES: [GuestAddress; 3] = [
    GuestAddress(0x2000),
    GuestAddress(0x3000),
    GuestAddress(0x4000),
];
/// Where the addresses are that the guest writes to, up to the end of [`BOOT`].
const LIST: GuestAddress = GuestAddress(0x5000);

#[rustfmt::skip]
const PROGRAM: &[u8] = &[
    0x48, 0x8b, 0x3e,       // next: mov rdi, [rsi]
    0x48, 0x89, 0x07,       // mov [rdi], rax
    0x48, 0x83, 0xc6, 0x08, // add rsi, 8
    0x48, 0xff, 0xc9,       // dec rcx
    0x75, 0xf1,             // jnz next
    0xe6, 0x10,             // out 0x10, al
];

/// A virtual machine with one processor, on a memory that outlives it.
#[derive(Debug)]
pub(crate) struct Machine<'a> {
    // Before the machine, which it uses.
    vcpu: Vcpu,
    vm: VmFd,
    ring_bytes: Option<u64>,
    _memory: &'a Memory,
}

/// The processor.
#[derive(Debug)]
pub(crate) struct Vcpu(VcpuFd);

impl<'a> Machine<'a> {
    /// Makes a machine with logged slots and one for [`BOOT`] that is not; with a dirty ring of so many bytes, or the least that
    /// KVM accepts. The error says what is missing.
    pub(crate) fn new(
        memory: &'a Memory,
        slots: &MemorySlots,
        least_ring_bytes: Option<u64>,
    ) -> Result<Self, String> {
        let kvm = Kvm::new().map_err(|error| format!("/dev/kvm cannot be opened: {error}"))?;
        let vm = kvm
            .create_vm()
            .map_err(|error| format!("no virtual machine: {error}"))?;
        let ring_bytes = least_ring_bytes
            .map(|bytes| enable_ring(&vm, bytes))
            .transpose()?;
        let boot = (BOOT.0.0, BOOT.1 as u64);
        let logged = slots.iter().map(|(number, slot)| {
            let range = (slot.start.0, slot.len_bytes);
            (number, range, KVM_MEM_LOG_DIRTY_PAGES)
        });
        for (slot, (start, len_bytes), flags) in logged.chain([(0, boot, 0)]) {
            let len = usize::try_from(len_bytes).unwrap();
            let host = memory
                .get_host_address_range(GuestAddress(start), len)
                .unwrap();
            let region = kvm_userspace_memory_region {
                slot,
                flags,
                guest_phys_addr: start,
                memory_size: len_bytes,
                userspace_addr: host.addr() as u64,
            };
            // SAFETY:
            // - valid memory: the library says that all of the range is one region's, mapped without a gap.
            // - long enough: the memory is borrowed for as long as this machine lives.
            // - no overlap: slots are parts of regions, which do not overlap.
            unsafe { vm.set_user_memory_region(region) }.unwrap();
        }

        memory.write_slice(PROGRAM, CODE).unwrap();
        // Present, writable, unprivileged, accessed: nothing is left for the processor to note in them.
        let [top, middle, bottom] = PAGE_TABLES;
        memory.write_obj(middle.0 | 0x27, top).unwrap();
        memory.write_obj(bottom.0 | 0x27, middle).unwrap();
        for index in 0..512 {
            // And dirty; a large page.
            let entry = index << 21 | 0xe7_u64;
            memory
                .write_obj(entry, GuestAddress(bottom.0 + 8 * index))
                .unwrap();
        }
        let vcpu = vm.create_vcpu(0).unwrap();
        let mut special = vcpu.get_sregs().unwrap();
        enter_64_bit_mode(&mut special, PAGE_TABLES[0]);
        vcpu.set_sregs(&special).unwrap();
        Ok(Machine {
            vcpu: Vcpu(vcpu),
            vm,
            ring_bytes,
            _memory: memory,
        })
    }

    /// Returns the processor to run and the machine to ask for its logs.
    pub(crate) fn parts(&mut self) -> (&mut Vcpu, &VmFd) {
        (&mut self.vcpu, &self.vm)
    }

    /// Maps the processor's dirty ring.
    pub(crate) fn map_ring(&self) -> Mapping {
        Mapping::new(&self.vcpu.0, self.ring_bytes.unwrap())
    }
}

/// Gives each processor a dirty ring; returns its size in bytes.
fn enable_ring(vm: &VmFd, least_bytes: u64) -> Result<u64, String> {
    let most_bytes = vm.check_extension_raw(KVM_CAP_DIRTY_LOG_RING.into());
    let most_bytes = u64::try_from(most_bytes).unwrap_or_default();
    if most_bytes == 0 {
        return Err("this KVM has no dirty rings".to_owned());
    }
    let mut bytes = least_bytes;
    // How many entries KVM reserves depends on the processor.
    while bytes <= most_bytes {
        let mut capability = kvm_enable_cap {
            cap: KVM_CAP_DIRTY_LOG_RING,
            ..Default::default()
        };
        capability.args[0] = bytes;
        if vm.enable_cap(&capability).is_ok() {
            return Ok(bytes);
        }
        bytes *= 2;
    }
    Err(format!(
        "KVM accepts no dirty ring of {least_bytes} to {most_bytes} bytes"
    ))
}

/// Lets KVM take collected entries back; returns how many.
pub(crate) fn reset_rings(vm: &VmFd) -> usize {
    // SAFETY: the request takes no argument and touches no memory of this process but the ring.
    let count = unsafe { libc::ioctl(vm.as_raw_fd(), KVM_RESET_DIRTY_RINGS) };
    usize::try_from(count).expect("KVM resets its rings")
}

impl Vcpu {
    /// Lets the guest write a value to each of the pages; calls `full` when its ring is full.
    pub(crate) fn write(
        &mut self,
        memory: &Memory,
        pages: &[u64],
        value: u64,
        mut full: impl FnMut(),
    ) {
        let room = (BOOT.1 as u64 - LIST.0) / 8;
        assert!(!pages.is_empty() && pages.len() as u64 <= room);
        let list = pages
            .iter()
            .flat_map(|page| (page + GUEST_WORD).to_le_bytes());
        let list: Vec<u8> = list.collect();
        memory.write_slice(&list, LIST).unwrap();
        let registers = kvm_regs {
            rip: CODE.0,
            rsi: LIST.0,
            rcx: pages.len() as u64,
            rax: value,
            // May use ports; and the bit that is always set.
            rflags: 0b11 << 12 | 0b10,
            ..Default::default()
        };
        self.0.set_regs(&registers).unwrap();
        loop {
            match self.0.run() {
                Ok(VcpuExit::IoOut(..)) => break,
                Ok(VcpuExit::Unsupported(KVM_EXIT_DIRTY_RING_FULL)) => full(),
                Ok(VcpuExit::Intr) => {}
                Ok(exit) => panic!("the guest cannot go on: {exit:?}"),
                Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => {}
                Err(error) => panic!("KVM cannot run the guest: {error}"),
            }
        }
        // KVM finishes the instruction when it is entered the next time.
        self.0.set_kvm_immediate_exit(1);
        assert_eq!(self.0.run().unwrap_err().errno(), libc::EINTR);
        self.0.set_kvm_immediate_exit(0);
        assert_eq!(self.0.get_regs().unwrap().rcx, 0);
    }
}

/// A dirty ring, mapped.
///
/// # Invariants
///
/// `[start, start + len)` are entries of a mapping of this type's own, which lasts until it is dropped.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: NonNull<Entry>,
    len: usize,
}

// SAFETY: the mapping belongs to no thread, and its entries are atomics.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new(vcpu: &VcpuFd, bytes: u64) -> Self {
        let len_bytes = usize::try_from(bytes).unwrap();
        let offset = i64::from(KVM_DIRTY_LOG_PAGE_OFFSET) * i64::try_from(PAGE_BYTES).unwrap();
        // SAFETY: a new mapping at an address that the kernel chooses.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len_bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                vcpu.as_raw_fd(),
                offset,
            )
        };
        assert_ne!(
            start,
            libc::MAP_FAILED,
            "{}",
            std::io::Error::last_os_error()
        );
        Mapping {
            start: NonNull::new(start.cast()).unwrap(),
            len: len_bytes / size_of::<Entry>(),
        }
    }

    /// Returns the entries.
    pub(crate) fn entries(&self) -> &[Entry] {
        // SAFETY:
        // - valid and aligned: by the invariant; a mapping starts at a page.
        // - initialised: every bit pattern is an entry.
        // - shared: entries are atomics, and the kernel accesses them as such.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the invariant says that it is a mapping of this type's own; no borrow of its entries is left.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len * size_of::<Entry>()) };
    }
}
