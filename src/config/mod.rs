//! crio.conf(5): the schema of every key, the files and drop-ins it comes from, checks and printing.
//!
//! Other rooms do not import this one: the daemon fills their own small settings from [`Config`].

mod changed;
mod check;
mod choice;
mod document;
mod error;
mod files;
mod handlers;
mod load;
mod manual;
mod node_files;
mod place;
mod print;
mod programs;
mod quantity;
mod rules;
mod schema;
mod sources;
mod suggest;
mod tables;
mod value;

#[cfg(test)]
mod tests;

pub use changed::changed;
#[cfg(test)]
pub use choice::LogLevel;
pub use choice::{
    CgroupManager, CheckpointLevel, ImageVolumes, LogFormat, ShortNameMode, TlsVersion,
};
pub use error::ConfigError;
pub use handlers::{Handlers, ReadyHandler, handlers, pause_binary};
pub use load::{Loaded, load};
pub use manual::page as manual_page;
pub use node_files::{default_mounts, localtime};
pub use place::Problem;
pub use print::{default_file, effective_file};
pub use quantity::parse_duration as duration;
pub use quantity::{Device, Ulimit};
pub use schema::{Key, Status, Table};
pub use sources::Sources;
pub use tables::{Config, Options, Workload};
pub use value::Shape;
