// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The processors of a memory node.

use std::fs;
use std::io;

use crate::NumaNode;

/// Returns the numbers of the processors of a memory node, in rising order; none if the node has memory alone.
pub(crate) fn node_cpus(node: NumaNode) -> io::Result<Vec<usize>> {
    let text = fs::read_to_string(format!("/sys/devices/system/node/node{node}/cpulist"))?;
    parse(&text).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no list of processors"))
}

/// Reads a list such as `0-3,8,10-11`.
fn parse(text: &str) -> Option<Vec<usize>> {
    let text = text.trim();
    let mut cpus = Vec::new();
    if text.is_empty() {
        return Some(cpus);
    }
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.parse::<usize>().ok()?, last.parse::<usize>().ok()?);
        if last < first || last > MAX_CPU {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus)
}

/// Far more than any kernel supports: a number beyond is no processor's.
pub(super) const MAX_CPU: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_ranges_and_numbers() {
        assert_eq!(parse("0-3,8,10-11\n"), Some(vec![0, 1, 2, 3, 8, 10, 11]));
        assert_eq!(parse("7\n"), Some(vec![7]));
        assert_eq!(parse("\n"), Some(Vec::new()));
        for bad in ["x", "3-1", "1,,2", "-", "0-99999999999"] {
            assert_eq!(parse(bad), None, "{bad}");
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
