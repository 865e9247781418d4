//! How much may be registered.

use leadsman_core::model::ServiceName;

use super::super::model::Refusal;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Limits {
    pub(in super::super) instances: usize,
    pub(in super::super) services: usize,
    pub(in super::super) instances_per_service: usize,
}

impl Default for Limits {
    /// Some 100 MiB of memory and file when all of it is used with the largest metadata.
    fn default() -> Self {
        Self {
            instances: 50_000,
            services: 10_000,
            instances_per_service: 5_000,
        }
    }
}

impl Limits {
    /// Whether there is room for one more instance, where so many are registered.
    pub(super) fn check(
        self,
        service: &ServiceName,
        of_service: usize,
        all: usize,
        services: usize,
    ) -> Result<(), Refusal> {
        let full = if of_service >= self.instances_per_service {
            format!("{service} has {of_service} instances, and a service may have no more")
        } else if all >= self.instances {
            format!("{all} instances are registered, and there may be no more")
        } else if of_service == 0 && services >= self.services {
            format!("{services} services are registered, and there may be no more")
        } else {
            return Ok(());
        };
        Err(Refusal::Full(full))
    }
}
