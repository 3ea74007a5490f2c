// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Without the fault guard no access returns after a fault.

use crate::fault_kind::FaultKind;

/// Returns the kind of this thread's last fault.
pub(crate) fn last_kind() -> FaultKind {
    FaultKind::Other
}
