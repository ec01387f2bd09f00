//! What the daemon remembers: identities, records on disk, tables in memory, operations in flight.
//!
//! This room stores and never interprets: what a pod or a container is, and what its record means,
//! the rooms above say. Nothing here waits for anything outside the process.

mod boot;
mod happening;
mod id;
mod load;
mod name;
mod operations;
mod owners;
mod paths;
mod recorded;
mod records;
mod table;

pub use happening::{Happening, Told};
pub use id::Id;
pub use load::read_all;
pub use name::{ContainerName, PodName};
pub use operations::{InFlight, Operations, Stage};
pub use owners::{Owners, ids_in};
pub use paths::RunDir;
pub use recorded::Recorded;
pub use records::{RecordError, Records, Versioned, create_private};
pub use table::{LookupError, Table};
