// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Nothing: the tests of this package use crates that build on `vm-memory` 0.18, on this repository's memory.
//!
//! * `tests/virtqueue.rs`: virtio-queue; descriptor chains direct, indirect, crossing regions, malformed.
//! * `tests/vsock.rs`: virtio-vsock; packets in both directions.
//! * `tests/loader.rs`: linux-loader; an ELF image, a kernel as bzImage, boot parameters.
//! * `tests/vhost_user.rs`: vhost and vhost-user-backend; two processes' views of one memory, and a shared log.
//! * `tests/vfio.rs`: `vfio-ioctls` and `vfio_user`; memory given to a device.
//! * `tests/older.rs`: consumers of `vm-memory` 0.17.
//! * `tests/graph.rs`: there is one `vm-memory` 0.18 and it is this repository's.
//!
//! `upstream-suites` runs the crates' own test suites.
