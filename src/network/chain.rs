//! Running a network's plugins for one pod, in order or backwards.

use std::path::PathBuf;

use serde_json::{Map, Value};
use tokio::time::Instant;

use super::{
    admission::Turn,
    config::{Network, Plugin},
    error::{Command, NetworkError, PluginFailure, excerpt},
    plugin::{self, Call, ForWhom},
    result::PluginResult,
    version::CniVersion,
};
use crate::sys::fault;

/// One pod and one network.
#[derive(Debug)]
pub(super) struct Chain<'a> {
    pub(super) turn: &'a Turn,
    pub(super) network: &'a Network,
    pub(super) plugin_dirs: &'a [PathBuf],
    pub(super) sandbox_id: &'a str,
    pub(super) interface: &'a str,
    /// Empty on DEL when the namespace is gone.
    pub(super) netns: &'a str,
    pub(super) cni_args: &'a [(String, String)],
    pub(super) capability_args: Option<&'a Map<String, Value>>,
}

/// An ADD that failed.
#[derive(Debug)]
pub(super) struct AddFailed {
    pub(super) error: NetworkError,
    /// How many plugins have run, and so may have left something.
    pub(super) attempted: usize,
}

impl Chain<'_> {
    /// ADD: each plugin gets the result of the one before it.
    pub(super) async fn add(&self, deadline: Instant) -> Result<PluginResult, AddFailed> {
        let mut previous: Option<PluginResult> = None;
        for (index, plugin) in self.network.plugins.iter().enumerate() {
            let result = self
                .execute(
                    Command::Add,
                    plugin,
                    previous.as_ref().map(PluginResult::document),
                    deadline,
                )
                .await
                .and_then(|output| {
                    PluginResult::parse(&output.stdout, self.network.version).map_err(|problem| {
                        let stdout = plugin::shown(&output.stdout);
                        PluginFailure::BadResult {
                            problem: excerpt(problem),
                            stdout,
                            stderr: output.stderr,
                        }
                    })
                });
            match result {
                Ok(result) => {
                    previous = Some(result);
                    fault::point("cni.plugin-added");
                }
                Err(failure) => {
                    let ran = !matches!(
                        failure,
                        PluginFailure::NotFound(_) | PluginFailure::Spawn { .. }
                    );
                    let attempted = index + usize::from(ran);
                    let error = self.error(Command::Add, plugin, failure);
                    return Err(AddFailed { error, attempted });
                }
            }
        }
        previous.ok_or_else(|| AddFailed {
            error: NetworkError::NoAddress {
                sandbox_id: self.sandbox_id.to_owned(),
                network: self.network.name.clone(),
                interface: self.interface.to_owned(),
            },
            attempted: 0,
        })
    }

    /// DEL of the first `count` plugins, the last one first. Stops at the first failure, except
    /// one that says there is nothing to delete.
    pub(super) async fn del(
        &self,
        count: usize,
        result: Option<&Map<String, Value>>,
        deadline: Instant,
    ) -> Result<(), NetworkError> {
        let result = result.filter(|_| self.network.version >= CniVersion::WITH_RESULT_ON_DEL);
        for plugin in self.network.plugins.iter().take(count).rev() {
            match self.execute(Command::Del, plugin, result, deadline).await {
                Ok(_) => fault::point("cni.plugin-deleted"),
                Err(failure) if failure.means_already_gone(self.netns.is_empty()) => {
                    tracing::debug!(id = self.sandbox_id, plugin = plugin.kind, %failure, "nothing to delete");
                }
                Err(failure) => return Err(self.error(Command::Del, plugin, failure)),
            }
        }
        Ok(())
    }

    async fn execute(
        &self,
        command: Command,
        plugin: &Plugin,
        previous: Option<&Map<String, Value>>,
        deadline: Instant,
    ) -> Result<plugin::Output, PluginFailure> {
        let path = plugin::find(&plugin.kind, self.plugin_dirs)?;
        let stdin = plugin.request(self.network, previous, self.capability_args);
        let whom = ForWhom {
            sandbox_id: self.sandbox_id,
            netns: self.netns,
            interface: self.interface,
            args: self.cni_args,
        };
        let env = plugin::variables(command, self.plugin_dirs, &whom);
        let call = Call {
            path: &path,
            env: &env,
            stdin: &stdin,
            deadline,
        };
        let begun = Instant::now();
        let output = plugin::run(&call, |pid| self.turn.running(&plugin.kind, pid)).await;
        self.turn.between_plugins();
        if let Ok(plugin::Output { stderr, .. }) = &output {
            let elapsed_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
            tracing::debug!(
                id = self.sandbox_id, plugin = plugin.kind, %command, elapsed_ms, stderr, "plugin done"
            );
        }
        output
    }

    fn error(&self, command: Command, plugin: &Plugin, failure: PluginFailure) -> NetworkError {
        NetworkError::Plugin {
            sandbox_id: self.sandbox_id.to_owned(),
            network: self.network.name.clone(),
            plugin: plugin.kind.clone(),
            command,
            failure: Box::new(failure),
        }
    }
}
