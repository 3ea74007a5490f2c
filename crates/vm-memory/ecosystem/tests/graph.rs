// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The patch took effect for every crate.

use std::path::Path;
use std::process::Command;

#[test]
fn there_is_one_vm_memory_0_18_and_it_is_this_repositorys() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let tree = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--locked",
            "--edges=all",
            "--prefix=none",
            "--format={p}",
        ])
        .current_dir(here)
        .output()
        .unwrap();
    let text = String::from_utf8(tree.stdout).unwrap();
    assert!(
        tree.status.success(),
        "{}",
        String::from_utf8_lossy(&tree.stderr)
    );
    let mut found: Vec<&str> = text
        .lines()
        .map(|line| line.trim_end_matches(" (*)"))
        .collect();
    found.retain(|line| line.starts_with("vm-memory v0.18"));
    found.dedup();
    found.sort_unstable();
    found.dedup();
    let shim = here.parent().unwrap();
    assert_eq!(found, [format!("vm-memory v0.18.0 ({})", shim.display())]);
}
