// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The processors of a NUMA node, by their numbers and as bits.

use std::fs;
use std::io;

use crate::{NumaNode, number_list};

/// Far more than any kernel supports: a number beyond is no processor's.
const LAST_CPU: u32 = 1 << 20;

/// Returns the numbers of the processors of a memory node, in rising order; none if the node has memory alone.
pub(crate) fn node_cpus(node: NumaNode) -> io::Result<Vec<usize>> {
    let text = fs::read_to_string(format!("/sys/devices/system/node/node{node}/cpulist"))?;
    let cpus = number_list::parse(text.trim_end(), LAST_CPU).map_err(|part| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{part:?} is no processor"),
        )
    })?;
    let cpus = cpus.into_iter().flatten();
    Ok(cpus.filter_map(|cpu| usize::try_from(cpu).ok()).collect())
}

/// Returns the bits of processors, as the kernel takes them.
pub(super) fn mask(cpus: &[usize]) -> io::Result<Vec<libc::c_ulong>> {
    let is_cpu = |cpu: &usize| u32::try_from(*cpu).is_ok_and(|cpu| cpu <= LAST_CPU);
    if cpus.iter().all(is_cpu) {
        Ok(number_list::mask(cpus.iter().copied()))
    } else {
        Err(io::Error::from_raw_os_error(libc::EINVAL))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_no_processor_can_have_is_refused_and_costs_no_mask() {
        assert_eq!(mask(&[0, 3]).unwrap(), [0b1001]);
        for none in [usize::MAX, 1 << 21] {
            let error = mask(&[0, none]).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
        }
    }

    #[test]
    fn the_first_node_has_a_processor_of_this_system() {
        match node_cpus(NumaNode(0)) {
            Ok(cpus) => assert!(!cpus.is_empty()),
            Err(error) => println!("skipped: {error}"),
        }
        assert!(node_cpus(NumaNode(u32::MAX)).is_err());
    }
}
