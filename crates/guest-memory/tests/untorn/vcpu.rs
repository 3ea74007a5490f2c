// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A virtual processor in 64-bit mode that does nothing but store to one word.
//!
//! It runs unprivileged: a KVM without the processor's help runs such code as it is and emulates the rest.
#![expect(
    unsafe_code,
    reason = "KVM is told where guest memory lies in this process"
)]

use guest_memory::{Bytes, GuestAddress, GuestMemory, GuestMemoryMmap, GuestMemoryRegion};
use kvm_bindings::{kvm_regs, kvm_userspace_memory_region};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd, VmFd};

use crate::user_mode::enter_64_bit_mode;

const CODE: GuestAddress = GuestAddress(0x1000);
/// One table each, of which one entry is used: together they map the first 2 MiB to itself.
const PAGE_TABLES: [GuestAddress; 3] = [
    GuestAddress(0x2000),
    GuestAddress(0x3000),
    GuestAddress(0x4000),
];

#[rustfmt::skip]
const PROGRAM: &[u8] = &[
    0x48, 0x89, 0x07, // store: mov [rdi], rax
    0x48, 0xf7, 0xd0, // not rax
    0x48, 0xff, 0xc9, // dec rcx
    0x75, 0xf5,       // jnz store
    0xe6, 0x10,       // out 0x10, al
];

/// A virtual machine with one processor, ready to run.
#[derive(Debug)]
pub(crate) struct Vcpu {
    // Before the machine and the memory, which it uses.
    vcpu: VcpuFd,
    _machine: VmFd,
    _memory: GuestMemoryMmap,
}

impl Vcpu {
    /// Makes a processor that will store zeroes and ones in turn, `stores` times, to the word at `word`.
    pub(crate) fn new(
        memory: &GuestMemoryMmap,
        word: GuestAddress,
        stores: u64,
    ) -> Result<Self, String> {
        let kvm = Kvm::new().map_err(|error| format!("/dev/kvm: {error}"))?;
        let machine = kvm
            .create_vm()
            .map_err(|error| format!("no virtual machine: {error}"))?;
        let region = memory.iter().next().unwrap();
        let slot = kvm_userspace_memory_region {
            slot: 0,
            flags: 0,
            guest_phys_addr: region.start_addr().0,
            memory_size: region.len(),
            userspace_addr: region.as_ptr().addr() as u64,
        };
        // SAFETY: the address and length are those of the region's own mapping, which is kept as long as the machine:
        // by the `Arc` in the memory's clone.
        unsafe { machine.set_user_memory_region(slot) }.unwrap();

        memory.write_slice(PROGRAM, CODE).unwrap();
        // Present, writable, unprivileged; the last is a large page.
        let [top, middle, bottom] = PAGE_TABLES;
        memory.write_obj(middle.0 | 0b111, top).unwrap();
        memory.write_obj(bottom.0 | 0b111, middle).unwrap();
        memory.write_obj(0b1000_0111_u64, bottom).unwrap();

        let vcpu = machine.create_vcpu(0).unwrap();
        let mut special = vcpu.get_sregs().unwrap();
        enter_64_bit_mode(&mut special, PAGE_TABLES[0]);
        vcpu.set_sregs(&special).unwrap();
        let registers = kvm_regs {
            rip: CODE.0,
            rdi: word.0,
            rcx: stores,
            rax: 0,
            // May use ports; and the bit that is always set.
            rflags: 0b11 << 12 | 0b10,
            ..Default::default()
        };
        vcpu.set_regs(&registers).unwrap();
        Ok(Self {
            vcpu,
            _machine: machine,
            _memory: memory.clone(),
        })
    }

    /// Runs until all stores are done.
    pub(crate) fn run(mut self) {
        loop {
            match self.vcpu.run() {
                Ok(VcpuExit::IoOut(..)) => break,
                Ok(VcpuExit::Intr) => {}
                Ok(exit) => panic!("the guest cannot go on: {exit:?}"),
                Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => {}
                Err(error) => panic!("KVM cannot run the guest: {error}"),
            }
        }
        assert_eq!(self.vcpu.get_regs().unwrap().rcx, 0);
    }
}
