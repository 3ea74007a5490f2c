// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the guest runs, and what there must be on this machine for it.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const MODULES: [&str; 6] = [
    "virtio/virtio_ring",
    "virtio/virtio",
    "virtio/virtio_pci_modern_dev",
    "virtio/virtio_pci_legacy_dev",
    "virtio/virtio_pci",
    "block/virtio_blk",
];

/// The files and programs of the host that a guest is made of.
pub(crate) struct Parts {
    pub(crate) qemu: PathBuf,
    pub(crate) kernel: PathBuf,
    pub(crate) busybox: PathBuf,
    cpio: PathBuf,
    modules: PathBuf,
}

impl Parts {
    /// Looks for everything; the error says what is missing.
    pub(crate) fn find() -> Result<Self, String> {
        let (kernel, modules) = kernel_with_modules()?;
        Ok(Self {
            qemu: program("qemu-system-x86_64")?,
            kernel,
            busybox: program("busybox")?,
            cpio: program("cpio")?,
            modules,
        })
    }

    /// Writes the archive that the kernel unpacks as its root into `directory`.
    pub(crate) fn build_initramfs(&self, directory: &Path) -> PathBuf {
        let root = directory.join("root");
        for name in ["bin", "dev", "modules", "proc", "sys"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        let mut files = String::from("bin\ndev\nmodules\nproc\nsys\ninit\nbin/busybox\n");
        fs::copy(&self.busybox, root.join("bin/busybox")).unwrap();
        fs::write(root.join("init"), include_str!("init")).unwrap();
        fs::set_permissions(root.join("init"), fs::Permissions::from_mode(0o755)).unwrap();
        for module in MODULES {
            let name = format!(
                "modules/{}.ko",
                Path::new(module).file_name().unwrap().display()
            );
            fs::copy(self.modules.join(format!("{module}.ko")), root.join(&name)).unwrap();
            files.push_str(&name);
            files.push('\n');
        }

        let archive = directory.join("initramfs.cpio");
        let mut cpio = Command::new(&self.cpio)
            .args(["--create", "--format=newc", "--quiet"])
            .current_dir(&root)
            .stdin(Stdio::piped())
            .stdout(File::create(&archive).unwrap())
            .spawn()
            .unwrap();
        let mut names = cpio.stdin.take().unwrap();
        names.write_all(files.as_bytes()).unwrap();
        drop(names);
        assert!(cpio.wait().unwrap().success());
        archive
    }

    /// Returns the checksum that the guest's `sha256sum` prints for these bytes of `file`.
    pub(crate) fn checksum(&self, file: &Path, offset: u64, len_bytes: u64) -> String {
        let output = Command::new("sh")
            .arg("-c")
            .arg("tail -c +$(($2 + 1)) \"$1\" | head -c \"$3\" | \"$0\" sha256sum")
            .arg(&self.busybox)
            .arg(file)
            .args([offset.to_string(), len_bytes.to_string()])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.split(' ').next().unwrap().to_owned()
    }
}

fn program(name: &str) -> Result<PathBuf, String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|directory| directory.join(name))
        .find(|file| file.is_file())
        .ok_or(format!("no program {name}"))
}

/// Debian's kernel for virtual machines, which brings virtio as modules.
fn kernel_with_modules() -> Result<(PathBuf, PathBuf), String> {
    let entries = fs::read_dir("/boot").map_err(|error| format!("/boot: {error}"))?;
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with("vmlinuz-") && name.ends_with("-cloud-amd64"))
        .collect();
    names.sort();
    for name in names.iter().rev() {
        let version = name.trim_start_matches("vmlinuz-");
        let modules = Path::new("/lib/modules")
            .join(version)
            .join("kernel/drivers");
        if MODULES
            .iter()
            .all(|module| modules.join(format!("{module}.ko")).is_file())
        {
            return Ok((Path::new("/boot").join(name), modules));
        }
    }
    Err("no /boot/vmlinuz-*-cloud-amd64 with its modules".into())
}
