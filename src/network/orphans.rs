//! Plugins that a daemon has left behind which was killed.

use std::time::Duration;

use super::Networks;
use crate::sys::process_tree::{self, kill_all_with};

/// How long a killed plugin may take to be gone. One that hangs in the kernel holds nobody up.
const GONE: Duration = Duration::from_secs(5);

impl Networks {
    /// Ends the plugins of a pod, and what they have started, that an earlier daemon has called.
    /// Without this an ADD goes on beside the DEL that undoes it, and what it makes last stays.
    /// They are known by the variable `CNI_CONTAINERID` that they are called with (CNI spec,
    /// section 2). For pods that were being made; reads all of /proc.
    pub async fn end_plugins(&self, sandbox_id: &str) {
        let variable = format!("CNI_CONTAINERID={sandbox_id}");
        if let Err(error) = process_tree::end(move || kill_all_with(&variable), GONE).await {
            tracing::warn!(sandbox_id, %error, "plugins of the dead daemon are not ended");
        }
    }
}
