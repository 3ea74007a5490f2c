// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a vCPU takes along when it moves to another virtual machine.

#![expect(
    unsafe_code,
    reason = "KVM reads as much extended state as the processor has"
)]

use kvm_bindings::{
    Msrs, kvm_debugregs, kvm_mp_state, kvm_msr_entry, kvm_regs, kvm_sregs, kvm_vcpu_events,
    kvm_xcrs, kvm_xsave,
};
use kvm_ioctls::{Kvm, VcpuFd};

use crate::failure::Failure;

/// Registers that count on by themselves: two readings differ.
const CLOCKS: [u32; 4] = [0x10, 0x3b, 0x6e0, 0xe7];

/// The state of a vCPU between two of its runs.
///
/// An interrupt controller's is not in it: the machine of the built-in guest has none.
#[derive(Debug)]
pub(crate) struct CpuState {
    general: kvm_regs,
    special: kvm_sregs,
    extended: kvm_xsave,
    extended_control: kvm_xcrs,
    debug: kvm_debugregs,
    events: kvm_vcpu_events,
    activity: kvm_mp_state,
    model_specific: Vec<kvm_msr_entry>,
}

impl CpuState {
    /// Takes the state of a vCPU.
    pub(crate) fn of(vcpu: &VcpuFd, kvm: &Kvm) -> Result<Self, Failure> {
        Ok(CpuState {
            general: vcpu.get_regs().map_err(untold("general registers"))?,
            special: vcpu.get_sregs().map_err(untold("special registers"))?,
            extended: vcpu.get_xsave().map_err(untold("extended state"))?,
            extended_control: vcpu.get_xcrs().map_err(untold("extended control"))?,
            debug: vcpu.get_debug_regs().map_err(untold("debug registers"))?,
            events: vcpu.get_vcpu_events().map_err(untold("events"))?,
            activity: vcpu.get_mp_state().map_err(untold("activity"))?,
            model_specific: model_specific(vcpu, kvm)?,
        })
    }

    /// Gives the state to a vCPU with the same CPUID.
    pub(crate) fn give(&self, vcpu: &VcpuFd) -> Result<(), Failure> {
        vcpu.set_mp_state(self.activity)
            .map_err(refused("activity"))?;
        vcpu.set_regs(&self.general)
            .map_err(refused("general registers"))?;
        vcpu.set_sregs(&self.special)
            .map_err(refused("special registers"))?;
        // SAFETY: KVM reads no more than this structure unless the process asked for larger dynamic state
        // (`arch_prctl(ARCH_REQ_XCOMP_GUEST_PERM)`), which this program does not.
        unsafe { vcpu.set_xsave(&self.extended) }.map_err(refused("extended state"))?;
        vcpu.set_xcrs(&self.extended_control)
            .map_err(refused("extended control"))?;
        vcpu.set_debug_regs(&self.debug)
            .map_err(refused("debug registers"))?;
        for entry in &self.model_specific {
            give_model_specific(vcpu, *entry)?;
        }
        vcpu.set_vcpu_events(&self.events)
            .map_err(refused("events"))
    }

    /// Returns how many steps of its work the built-in guest has done: it counts them in a register.
    pub(crate) fn work_steps(&self) -> u32 {
        u32::try_from(self.general.rsi & u64::from(u32::MAX)).unwrap_or_default()
    }

    /// Returns what of two states is not the same.
    pub(crate) fn differences(&self, other: &CpuState) -> Vec<String> {
        let parts = [
            ("general registers", self.general == other.general),
            ("special registers", self.special == other.special),
            (
                "extended state",
                self.extended.region == other.extended.region,
            ),
            (
                "extended control",
                self.extended_control == other.extended_control,
            ),
            ("debug registers", self.debug == other.debug),
            ("events", self.events == other.events),
            ("activity", self.activity == other.activity),
        ];
        let msrs = self
            .model_specific
            .iter()
            .zip(&other.model_specific)
            .filter(|(one, other)| {
                !CLOCKS.contains(&one.index) && (one.index, one.data) != (other.index, other.data)
            })
            .map(|(one, _)| format!("model-specific register {:#x}", one.index));
        parts
            .into_iter()
            .filter(|(_, is_same)| !is_same)
            .map(|(name, _)| name.to_owned())
            .chain(msrs)
            .collect()
    }
}

/// Reads each model-specific register that KVM keeps for a vCPU.
fn model_specific(vcpu: &VcpuFd, kvm: &Kvm) -> Result<Vec<kvm_msr_entry>, Failure> {
    let list = kvm
        .get_msr_index_list()
        .map_err(untold("list of model-specific registers"))?;
    // One at a time, because KVM stops at the first that this vCPU does not have.
    let entries = list
        .as_slice()
        .iter()
        .filter_map(|&index| read_model_specific(vcpu, index));
    Ok(entries.collect())
}

fn read_model_specific(vcpu: &VcpuFd, index: u32) -> Option<kvm_msr_entry> {
    let entry = kvm_msr_entry {
        index,
        ..Default::default()
    };
    let mut msrs = Msrs::from_entries(&[entry]).ok()?;
    let count = vcpu.get_msrs(&mut msrs).ok()?;
    msrs.as_slice().first().filter(|_| count == 1).copied()
}

/// Writes a model-specific register, unless it has that value already: some cannot be written.
fn give_model_specific(vcpu: &VcpuFd, entry: kvm_msr_entry) -> Result<(), Failure> {
    let is_written = Msrs::from_entries(&[entry])
        .ok()
        .and_then(|msrs| vcpu.set_msrs(&msrs).ok())
        == Some(1);
    let has_value =
        || read_model_specific(vcpu, entry.index).is_some_and(|found| found.data == entry.data);
    if is_written || has_value() {
        Ok(())
    } else {
        Err(Failure::run(format!(
            "KVM refuses the vCPU's model-specific register {:#x}",
            entry.index
        )))
    }
}

fn untold(what: &'static str) -> impl Fn(kvm_ioctls::Error) -> Failure {
    move |error| Failure::run(format!("KVM does not tell the vCPU's {what}: {error}"))
}

fn refused(what: &'static str) -> impl Fn(kvm_ioctls::Error) -> Failure {
    move |error| Failure::run(format!("KVM refuses the vCPU's {what}: {error}"))
}
