//! What a container is, for people: the verbose part of its status.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::{Containers, Record};

impl Containers {
    /// The facts behind a container as JSON, with CRI-O's keys: tools read `pid`, `sandboxID` and
    /// `runtimeSpec`. Reads the bundle.
    pub fn describe(&self, record: &Record) -> Value {
        let path = self.config_path(record);
        let spec = std::fs::read(&path)
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok());
        json!({
            "sandboxID": record.pod,
            "pid": record.init.filter(|_| record.exit().is_none()).map_or(0, |init| init.pid),
            "privileged": record.config.security.privileged,
            "runtimeSpec": spec.unwrap_or(Value::Null),
        })
    }

    /// The container's root filesystem as cAdvisor wants it: it ends in `/merged`, and the writable
    /// layer is `diff` beside it.
    pub fn root_path(&self, record: &Record) -> PathBuf {
        self.rooms.store.root_path(record.id.as_str())
    }

    pub(super) fn config_path(&self, record: &Record) -> PathBuf {
        self.rooms
            .run_dir
            .container(&record.id)
            .join(super::create::CONFIG)
    }
}
