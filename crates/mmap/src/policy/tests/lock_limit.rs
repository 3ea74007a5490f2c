// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The limit of locked memory: in a process of its own, since it can only be lowered for a whole process.

use super::*;

#[test]
fn a_lock_past_the_limit_is_refused_with_the_limit() {
    if let Some(limit) = rerun::task() {
        return locks_up_to(limit.parse().unwrap());
    }
    for limit in [0, 64 << 10] {
        let name = "policy::tests::lock_limit::a_lock_past_the_limit_is_refused_with_the_limit";
        rerun::run_with_lock_limit(name, &limit.to_string(), limit);
    }
}

/// What the process with the limit does.
fn locks_up_to(limit: usize) {
    let region = anonymous(MIB);
    for locking in [Locking::Now, Locking::OnFault] {
        let required = Policies::new().with_locking(locking, Need::Required);
        let error = apply(&required, &region).unwrap_err();
        let errno = match limit {
            0 => libc::EPERM,
            _ => libc::ENOMEM,
        };
        let expected = Refusal::LockLimit {
            errno,
            locked_bytes: 0,
            limit_bytes: limit,
        };
        assert_eq!(error.refusal, expected);
        let cause = error.source().unwrap().downcast_ref::<io::Error>();
        assert_eq!(cause.unwrap().raw_os_error(), Some(errno));
        let message = format!(
            "policy locking {locking} for 1048576 bytes at {:#x}: without CAP_IPC_LOCK the limit \
             (RLIMIT_MEMLOCK) is {limit} bytes, 0 are locked already",
            region.as_ptr().addr()
        );
        assert_eq!(error.to_string(), message);
        assert!(!smaps(&region).has("lo"));

        let wished = Policies::new().with_locking(locking, Need::Wished);
        let report = apply(&wished, &region).unwrap();
        assert_eq!(
            report.outcome(PolicyKind::Locking),
            &Outcome::Refused(expected)
        );
    }
    if limit > 0 {
        let small = anonymous(limit);
        let required = Policies::new().with_locking(Locking::Now, Need::Required);
        apply(&required, &small).unwrap();
        assert!(smaps(&small).has("lo"));
        // What is locked counts: now not one page more.
        let error = apply(&required, &anonymous(BIG_PAGE)).unwrap_err();
        let used_up = Refusal::LockLimit {
            errno: libc::ENOMEM,
            locked_bytes: limit,
            limit_bytes: limit,
        };
        assert_eq!(error.refusal, used_up);
    }
}
