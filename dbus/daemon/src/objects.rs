//! What the bus sees: one file an interface. None of them decides anything or waits for a guest.

mod domain;
mod job;
mod manager;

pub(crate) use domain::{Domain, properties};
pub(crate) use job::JobObject;
pub(crate) use manager::Manager;
