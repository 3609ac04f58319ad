//! seccomp: system calls that no build needs and attacks on a kernel begin with. Refused as if they were not permitted.
//!
//! A list of what is forbidden and not of what is allowed: node, browsers and compilers use whatever a kernel has, and a
//! new call must not break them.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter, sock_filter,
};

/// Refused whatever their arguments are.
const FORBIDDEN: [i64; 45] = [
    // Other processes' memory and descriptors.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    // Programs in the kernel, and a look into it.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_lookup_dcookie,
    libc::SYS_syslog,
    // Keys are the user's, not the namespace's.
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    // The fence itself.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_setns,
    libc::SYS_open_by_handle_at,
    // The machine.
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_vhangup,
    libc::SYS_nfsservctl,
];

/// With these, `clone(2)` and `unshare(2)` make namespaces; without, threads and copies of a table of descriptors.
const NAMESPACES: [libc::c_int; 7] = [
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWCGROUP,
];

/// Words put into a terminal as if they were typed: the terminal that `hookmill run` was started from.
const TYPING: [u64; 2] = [libc::TIOCSTI, libc::TIOCLINUX];

/// Puts both filters on this process, for ever. A call that is not this machine's own (of a 32-bit program) ends the
/// process: its numbers would go past the list.
pub(super) fn put_on() -> Result<(), String> {
    let told = |error: seccompiler::Error| error.to_string();
    apply_filter(&unknown()).map_err(told)?;
    apply_filter(&forbidden().map_err(|error| error.to_string())?).map_err(told)
}

fn forbidden() -> Result<BpfProgram, seccompiler::BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = FORBIDDEN.iter().map(|number| (*number, Vec::new())).collect();
    let when = |argument, of, how, value| SeccompRule::new(vec![SeccompCondition::new(argument, of, how, value)?]);
    let namespaces = NAMESPACES.iter().map(|flag| {
        let flag = u64::from(flag.cast_unsigned());
        when(0, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(flag), flag)
    });
    let namespaces: Vec<SeccompRule> = namespaces.collect::<Result<_, _>>()?;
    rules.extend([(libc::SYS_clone, namespaces.clone()), (libc::SYS_unshare, namespaces)]);
    let typing = TYPING.iter().map(|request| when(1, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, *request));
    rules.insert(libc::SYS_ioctl, typing.collect::<Result<_, _>>()?);
    let refused = SeccompAction::Errno(libc::EPERM.cast_unsigned());
    SeccompFilter::new(rules, SeccompAction::Allow, refused, std::env::consts::ARCH.try_into()?)?.try_into()
}

/// `clone3(2)`, whose flags no filter can read, and the second numbers of x86-64 (x32): as if this kernel had none. Every
/// C library then takes `clone(2)`.
fn unknown() -> BpfProgram {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
    const ANSWER: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    const X32: u32 = 0x4000_0000;
    let line = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    vec![
        // The number is the first field of what a filter sees (seccomp_data).
        line(LOAD, 0, 0, 0),
        line(EQUAL, 2, 0, libc::SYS_clone3 as u32),
        line(AT_LEAST, 1, 0, X32),
        line(ANSWER, 0, 0, libc::SECCOMP_RET_ALLOW),
        line(ANSWER, 0, 0, libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filters_compile_and_forbid_nothing_twice() {
        let program = forbidden().expect("compiled");
        assert!(program.len() > FORBIDDEN.len() && program.len() < 4096, "{}", program.len());
        let mut numbers = FORBIDDEN.to_vec();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), FORBIDDEN.len());
        assert_eq!(unknown().len(), 5);
    }
}
