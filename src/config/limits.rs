//! `[limits]`, whole for the server and in part for a repository.

use std::time::Duration;

use super::section::Section;
use crate::domain::cpus::Cpus;
use crate::domain::spec::Limits;

/// The limits that one table names.
#[derive(Debug, Clone, Default)]
pub(super) struct PartialLimits {
    step_timeout: Option<Duration>,
    build_timeout: Option<Duration>,
    memory: Option<u64>,
    processes: Option<u64>,
    cpus: Option<Cpus>,
    log_per_step: Option<u64>,
    checkout_files: Option<u64>,
    checkout_bytes: Option<u64>,
}

impl PartialLimits {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let limits = Self {
            step_timeout: section.duration("step_timeout"),
            build_timeout: section.duration("build_timeout"),
            memory: section.size("memory"),
            processes: section.positive("processes"),
            cpus: section.cpus("cpus"),
            log_per_step: section.size("log_per_step"),
            checkout_files: section.positive("checkout_files"),
            checkout_bytes: section.size("checkout_bytes"),
        };
        section.finish();
        limits
    }

    /// These limits where they are named, `base` elsewhere.
    pub(super) fn over(&self, base: &Limits) -> Limits {
        Limits {
            step_timeout: self.step_timeout.unwrap_or(base.step_timeout),
            build_timeout: self.build_timeout.unwrap_or(base.build_timeout),
            memory: self.memory.unwrap_or(base.memory),
            processes: self.processes.unwrap_or(base.processes),
            cpus: self.cpus.or(base.cpus),
            log_per_step: self.log_per_step.unwrap_or(base.log_per_step),
            checkout_files: self.checkout_files.unwrap_or(base.checkout_files),
            checkout_bytes: self.checkout_bytes.unwrap_or(base.checkout_bytes),
        }
    }

    /// For the server, where the embedded default names each of them that has one. One that is missing was
    /// reported, and what is read then is never used.
    pub(super) fn complete(&self) -> Limits {
        self.over(&Limits {
            step_timeout: Duration::ZERO,
            build_timeout: Duration::ZERO,
            memory: 0,
            processes: 0,
            cpus: None,
            log_per_step: 0,
            checkout_files: 0,
            checkout_bytes: 0,
        })
    }
}
