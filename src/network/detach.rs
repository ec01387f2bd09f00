//! Detaching a pod: DEL with what the cache says it was attached with. Also the sweep of
//! attachments that no pod has any more.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use futures_util::{StreamExt, stream};
use nix::sys::statfs::{NSFS_MAGIC, statfs};
use tokio::time::Instant;

use super::{
    INTERFACE, Networks,
    admission::Turn,
    cache::{Found, Record},
    error::{Command, NetworkError},
    off_thread, owned,
    pod::Pod,
};
use crate::sys::fault;

impl Networks {
    /// Detaches the pod and forgets the attachment. May be called again until it succeeds, also
    /// for pods that were never attached, and when the namespace is gone. The work is a task of
    /// its own: dropping the future does not stop it half way.
    pub async fn detach(self: &Arc<Self>, pod: &Pod) -> Result<(), NetworkError> {
        let (networks, pod) = (Arc::clone(self), pod.clone());
        let id = pod.sandbox_id.clone();
        owned(
            id,
            Command::Del,
            async move { networks.detach_now(&pod).await },
        )
        .await
    }

    /// The sandboxes that the cache says are attached and that are ours, with those whose records a
    /// power cut has left unreadable. Reads the disk.
    pub fn attached(&self) -> Result<BTreeSet<String>, NetworkError> {
        let told = self.own_records()?.into_iter();
        let told = told.map(|record| record.container_id);
        Ok(told
            .chain(self.damaged().into_iter().map(|(_, id)| id))
            .collect())
    }

    /// Detaches every attachment of ours that `keep` does not know; after a reboot, these are all
    /// of them, and what a power cut has left of others. What fails is returned, keeps its record, and
    /// is tried again by the next sweep.
    pub async fn detach_unknown(
        self: &Arc<Self>,
        keep: impl Fn(&str) -> bool,
    ) -> Vec<NetworkError> {
        let this = Arc::clone(self);
        let unknown = match off_thread("", Command::Del, move || this.attached()).await {
            Ok(attached) => attached.into_iter().filter(|id| !keep(id)),
            Err(error) => return vec![error],
        };
        let sweep = unknown.map(|sandbox_id| async move {
            let pod = Pod {
                sandbox_id,
                ..Pod::default()
            };
            self.detach(&pod).await.err()
        });
        stream::iter(sweep)
            .buffer_unordered(self.settings.concurrency.max(1))
            .filter_map(async |failed| failed)
            .collect()
            .await
    }

    async fn detach_now(&self, pod: &Pod) -> Result<(), NetworkError> {
        pod.check_id()?;
        let id = pod.sandbox_id.as_str();
        let turn = self
            .admission
            .enter(id, Command::Del, self.settings.del_timeout)
            .await?;
        let (cache, sandbox_id) = (self.cache.clone(), id.to_owned());
        let found = off_thread(id, Command::Del, move || {
            cache.remove_unfinished(&sandbox_id, INTERFACE)?;
            cache.of(&sandbox_id)
        })
        .await?;
        if found.is_empty() && pod.attempted {
            return self.delete_uncached(&turn, pod).await;
        }
        for found in found {
            match found {
                Found::Record(path, record) => {
                    let network = record
                        .network()
                        .map_err(|problem| NetworkError::CacheContent {
                            path: path.clone(),
                            problem,
                        });
                    match network {
                        Ok(network) => self.delete(&turn, pod, &network, &record).await?,
                        Err(damage) => self.delete_damaged(&turn, pod, &damage.to_string()).await?,
                    }
                    self.forget(id, path).await?;
                }
                Found::Damaged(path, problem) => {
                    self.delete_damaged(&turn, pod, &format!("{}: {problem}", path.display()))
                        .await?;
                    self.forget(id, path).await?;
                }
            }
        }
        Ok(())
    }

    async fn delete(
        &self,
        turn: &Turn,
        pod: &Pod,
        network: &super::config::Network,
        record: &Record,
    ) -> Result<(), NetworkError> {
        let begun = Instant::now();
        let pinned = if pod.netns.as_os_str().is_empty() {
            PathBuf::from(&record.netns)
        } else {
            pod.netns.clone()
        };
        let netns = off_thread(&record.container_id, Command::Del, move || {
            Ok(if is_namespace(&pinned) {
                pinned.to_string_lossy().into_owned()
            } else {
                String::new()
            })
        })
        .await?;
        let deadline = begun + self.settings.del_timeout;
        self.chain(turn, network, record, &netns)
            .del(network.plugins.len(), record.result.as_ref(), deadline)
            .await?;
        fault::point("cni.deleted");
        tracing::info!(
            id = record.container_id,
            network = record.network_name,
            elapsed_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            "pod detached"
        );
        Ok(())
    }

    /// DEL for a pod whose cache record cannot be used. It is this pod's by its name, so the
    /// present configuration is the best there is; then the record has done its duty.
    async fn delete_damaged(
        &self,
        turn: &Turn,
        pod: &Pod,
        damage: &str,
    ) -> Result<(), NetworkError> {
        tracing::warn!(
            id = pod.sandbox_id,
            damage,
            "CNI cache record unusable, detaching by the present configuration"
        );
        self.delete_uncached(turn, pod).await
    }

    /// DEL with the present configuration. Without one there is nothing that could be run, and a
    /// pod must not be undeletable for that.
    async fn delete_uncached(&self, turn: &Turn, pod: &Pod) -> Result<(), NetworkError> {
        let network = match self.current.default_network() {
            Ok(network) => network,
            Err(cause) => {
                tracing::warn!(
                    id = pod.sandbox_id, %cause, "nothing cached to detach the pod with, and no network: skipped"
                );
                return Ok(());
            }
        };
        let netns = pod.netns.to_string_lossy().into_owned();
        let record = Record::intent(
            &network,
            &pod.sandbox_id,
            INTERFACE,
            netns,
            pod.cni_args()?,
            pod.capability_args(),
        );
        self.delete(turn, pod, &network, &record).await
    }

    async fn forget(&self, id: &str, path: PathBuf) -> Result<(), NetworkError> {
        let cache = self.cache.clone();
        off_thread(id, Command::Del, move || cache.remove(&path)).await?;
        fault::point("cni.forgotten");
        Ok(())
    }
}

/// Whether a path is a network namespace, and not the empty file that a reboot or an unmount
/// leaves in its place. Plugins refuse the latter, but accept no namespace at all.
fn is_namespace(path: &Path) -> bool {
    statfs(path).is_ok_and(|fs| fs.filesystem_type() == NSFS_MAGIC)
}
