//! Locks a decoding child in: limits on what it may use, no files, no network, no other program.
//!
//! Two walls, so that one hole is not enough: seccomp ends the process at any system call that a
//! decoder has no need of, and Landlock, where the kernel has it, refuses files and the network.

use rustix::process::{Resource, Rlimit, setrlimit};

use super::ADDRESS_SPACE;
use super::wire::Hello;

/// Seconds of computing until the first file; then the parent counts.
const START_SECONDS: u64 = 10;

/// Why a child could not be locked in.
#[derive(Debug, thiserror::Error)]
pub enum CageError {
    /// A limit on a resource was refused.
    #[error("the system refuses a limit on resources")]
    Limit(#[source] std::io::Error),
    /// The filter of system calls was refused.
    #[cfg(target_os = "linux")]
    #[error("the system refuses the filter of system calls (seccomp)")]
    Seccomp(#[source] seccompiler::Error),
    /// The filter can't be built, for instance because this processor is not known to it.
    #[cfg(target_os = "linux")]
    #[error("there is no filter of system calls (seccomp) for this machine")]
    NoFilter(#[source] seccompiler::BackendError),
}

/// Takes away everything that decoding does not need. Nothing of it can be undone.
/// What could not be had is missing in the answer, except for limits, which every system has.
pub(super) fn lock_in() -> Result<(Hello, Option<CageError>), CageError> {
    // The kernel, when memory is short, ends a decoder first and not the watcher.
    // Where this is no file, nothing is lost.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    let landlock = landlock();
    limit_resources().map_err(|errno| CageError::Limit(errno.into()))?;
    match seccomp() {
        Ok(()) => Ok((Hello { seccomp: cfg!(target_os = "linux"), landlock }, None)),
        Err(why) => Ok((Hello { seccomp: false, landlock }, Some(why))),
    }
}

/// A ruleset that allows nothing. Answers the version that is in force, 0 for none.
#[cfg(target_os = "linux")]
pub(super) fn landlock() -> u32 {
    use landlock::{
        ABI, Access as _, AccessFs, AccessNet, LandlockStatus, Ruleset, RulesetAttr as _,
        RulesetStatus, Scope,
    };
    // The crate leaves out by itself what an older kernel does not know.
    let latest = ABI::V6;
    let restricted = Ruleset::default()
        .handle_access(AccessFs::from_all(latest))
        .and_then(|rules| rules.handle_access(AccessNet::from_all(latest)))
        .and_then(|rules| rules.scope(Scope::from_all(latest)))
        .and_then(landlock::Ruleset::create)
        .and_then(landlock::RulesetCreated::restrict_self);
    match restricted {
        Ok(status) if status.ruleset != RulesetStatus::NotEnforced => match status.landlock {
            LandlockStatus::Available { effective_abi, .. } => effective_abi as u32,
            LandlockStatus::NotEnabled | LandlockStatus::NotImplemented => 0,
        },
        _ => 0,
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn landlock() -> u32 {
    0
}

fn limit_resources() -> rustix::io::Result<()> {
    let exactly = |most| Rlimit { current: Some(most), maximum: Some(most) };
    setrlimit(Resource::As, exactly(ADDRESS_SPACE))?;
    setrlimit(Resource::Core, exactly(0))?;
    setrlimit(Resource::Fsize, exactly(0))?;
    setrlimit(Resource::Memlock, exactly(0))?;
    // It has its three descriptors and can open no other.
    setrlimit(Resource::Nofile, exactly(0))?;
    // No other process or thread; the system does not count this for root.
    setrlimit(Resource::Nproc, exactly(0))?;
    // Only the soft limit, so that the parent can raise it before each file.
    let hard = rustix::process::getrlimit(Resource::Cpu).maximum;
    setrlimit(Resource::Cpu, Rlimit { current: Some(START_SECONDS), maximum: hard })
}

/// Ends the process at every system call but those that a decoder needs: reading its request,
/// writing its answer, memory, ending.
#[cfg(target_os = "linux")]
fn seccomp() -> Result<(), CageError> {
    let program = filter().map_err(CageError::NoFilter)?;
    // Also sets no_new_privs.
    seccompiler::apply_filter_all_threads(&program).map_err(CageError::Seccomp)
}

#[cfg(target_os = "linux")]
fn filter() -> Result<seccompiler::BpfProgram, seccompiler::BackendError> {
    use seccompiler::SeccompCmpOp::{Eq, MaskedEq};
    use seccompiler::{
        SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    };
    let only = |argument: u8, how: SeccompCmpOp, value: u64| {
        SeccompRule::new(vec![SeccompCondition::new(
            argument,
            SeccompCmpArgLen::Dword,
            how,
            value,
        )?])
    };
    let executable = u64::from(libc::PROT_EXEC.unsigned_abs());
    let not_executable = || only(2, MaskedEq(executable), 0);
    let ourselves = u64::from(std::process::id());
    let mut rules = std::collections::BTreeMap::from([
        (libc::SYS_read, vec![only(0, Eq, 0)?]),
        // The answer, and the last words of a panic, which go nowhere.
        (libc::SYS_write, vec![only(0, Eq, 1)?, only(0, Eq, 2)?]),
        (libc::SYS_mmap, vec![not_executable()?]),
        (libc::SYS_mprotect, vec![not_executable()?]),
        // Only to end itself, when it aborts.
        (libc::SYS_tgkill, vec![only(0, Eq, ourselves)?]),
    ]);
    let free = [
        libc::SYS_munmap,
        libc::SYS_mremap,
        libc::SYS_madvise,
        libc::SYS_brk,
        libc::SYS_futex,
        libc::SYS_rt_sigaction,
        libc::SYS_rt_sigprocmask,
        libc::SYS_rt_sigreturn,
        libc::SYS_sigaltstack,
        libc::SYS_restart_syscall,
        libc::SYS_sched_yield,
        libc::SYS_clock_gettime,
        libc::SYS_clock_nanosleep,
        libc::SYS_nanosleep,
        libc::SYS_getrandom,
        libc::SYS_getpid,
        libc::SYS_gettid,
        libc::SYS_exit,
        libc::SYS_exit_group,
    ];
    rules.extend(free.map(|call| (call, vec![])));
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::KillProcess,
        SeccompAction::Allow,
        std::env::consts::ARCH.try_into()?,
    )?;
    filter.try_into()
}

#[cfg(not(target_os = "linux"))]
fn seccomp() -> Result<(), CageError> {
    Ok(())
}
