// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A hypervisor's file of guest memory (guest_memfd), made by KVM for a machine without processors.
#![expect(unsafe_code, reason = "calls KVM, which std does not know")]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use crate::subject::Skip;

// From `linux/kvm.h`.
const KVM_CREATE_VM: libc::c_ulong = 0xae01;
const KVM_CHECK_EXTENSION: libc::c_ulong = 0xae03;
const KVM_CREATE_GUEST_MEMFD: libc::c_ulong = 0xc040_aed4;
const KVM_CAP_GUEST_MEMFD: libc::c_ulong = 234;
/// Answers with the flags that the kernel takes.
const KVM_CAP_GUEST_MEMFD_FLAGS: libc::c_ulong = 244;
/// The file can be mapped, and the processes that map it may touch it.
const MMAP_AND_INIT_SHARED: u64 = 0b11;

/// What KVM is given, `struct kvm_create_guest_memfd`.
#[repr(C)]
struct CreateGuestMemfd {
    size: u64,
    flags: u64,
    reserved: [u64; 6],
}

/// Makes a file of `size` bytes that only the guest can see.
pub(crate) fn unmappable(size: usize) -> Result<File, Skip> {
    let vm = Vm::new()?;
    vm.require(KVM_CAP_GUEST_MEMFD, 1, "guest_memfd")?;
    Ok(vm.create(size, 0))
}

/// Makes a file of `size` bytes that can be mapped.
pub(crate) fn mappable(size: usize) -> Result<File, Skip> {
    let vm = Vm::new()?;
    vm.require(
        KVM_CAP_GUEST_MEMFD_FLAGS,
        MMAP_AND_INIT_SHARED,
        "guest_memfd that can be mapped (Linux 6.18)",
    )?;
    Ok(vm.create(size, MMAP_AND_INIT_SHARED))
}

/// A virtual machine without processors. The files that it makes outlive it.
struct Vm(OwnedFd);

impl Vm {
    fn new() -> Result<Self, Skip> {
        let options = File::options().read(true).write(true).open("/dev/kvm");
        let kvm = options.map_err(|error| Skip::lacking(format!("no /dev/kvm: {error}")))?;
        // SAFETY: the request takes an integer: the type of the machine, here the default.
        let vm = unsafe { libc::ioctl(kvm.as_raw_fd(), KVM_CREATE_VM, 0) };
        Ok(Self(owned(vm)))
    }

    /// Says what is missing unless all of `bits` are set in the answer about an extension.
    fn require(&self, extension: libc::c_ulong, bits: u64, what: &str) -> Result<(), Skip> {
        // SAFETY: the request takes an integer: the extension.
        let answer = unsafe { libc::ioctl(self.0.as_raw_fd(), KVM_CHECK_EXTENSION, extension) };
        match u64::try_from(answer).expect("an answer") & bits == bits {
            true => Ok(()),
            false => Err(Skip::lacking(format!("this KVM has no {what}"))),
        }
    }

    fn create(&self, size: usize, flags: u64) -> File {
        let request = CreateGuestMemfd {
            size: size as u64,
            flags,
            reserved: [0; 6],
        };
        // SAFETY: the request reads a structure of this layout.
        let file = unsafe {
            libc::ioctl(
                self.0.as_raw_fd(),
                KVM_CREATE_GUEST_MEMFD,
                &raw const request,
            )
        };
        File::from(owned(file))
    }
}

/// Takes a descriptor that the kernel just made.
#[track_caller]
fn owned(fd: RawFd) -> OwnedFd {
    assert!(fd >= 0, "KVM: {}", io::Error::last_os_error());
    // SAFETY: the descriptor is new and nobody else's.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
