//! crio.conf(5): the schema of every key, the files and drop-ins it comes from, checks and printing.
//!
//! Other rooms do not import this one: the daemon fills their own small settings from [`Config`].

mod choice;
mod quantity;
mod rules;
mod schema;
mod suggest;
mod tables;
mod value;

pub use choice::{
    CgroupManager, CheckpointLevel, ImageVolumes, LogFormat, LogLevel, RuntimeType, ShortNameMode,
    TlsVersion,
};
pub use quantity::{ByteSize, Capability, CpuSet, Device, EnvVar, Sysctl, TextPort, Ulimit};
pub use schema::{Key, Shape, Status, Table};
pub use tables::{
    Api, CheckpointRestore, Config, DefaultValidator, Handler, Image, Metrics, Network, Nri,
    Resources, Runtime, Stats, Tracing, Workload,
};
