//! Attaching a pod: intent in the cache, ADD, result in the cache; undone when a step fails.

use std::sync::Arc;

use tokio::time::Instant;

use super::{
    Attachment, INTERFACE, Networks,
    admission::Turn,
    cache::{Found, Record},
    chain::{AddFailed, Chain},
    config::Network,
    error::{Command, NetworkError},
    off_thread, owned,
    pod::Pod,
};
use crate::sys::fault;

impl Networks {
    /// Attaches the pod to the default network. On an error nothing is left attached; where that
    /// could not be reached, the cache keeps what `detach` needs. The work is a task of its own:
    /// dropping the future does not stop it half way.
    pub async fn attach(self: &Arc<Self>, pod: &Pod) -> Result<Attachment, NetworkError> {
        let (networks, pod) = (Arc::clone(self), pod.clone());
        let id = pod.sandbox_id.clone();
        owned(
            id,
            Command::Add,
            async move { networks.attach_now(&pod).await },
        )
        .await
    }

    async fn attach_now(&self, pod: &Pod) -> Result<Attachment, NetworkError> {
        pod.check_id()?;
        let cni_args = pod.cni_args()?;
        let id = pod.sandbox_id.as_str();
        let begun = Instant::now();
        let turn = self
            .admission
            .enter(id, Command::Add, self.settings.add_timeout)
            .await?;
        let network = self.default_network().await?;
        let netns = pod.netns.to_string_lossy().into_owned();
        let mut record = Record::intent(
            &network,
            id,
            INTERFACE,
            netns,
            cni_args,
            pod.capability_args(),
        );
        record.instance = Some(self.settings.instance.clone());
        self.write_intent(&record).await?;
        fault::point("cni.intended");
        let attached = self.add(&turn, &network, &mut record).await;
        let attached = match attached {
            Ok(attachment) => attachment,
            Err(AddFailed { error, attempted }) => {
                return Err(self.undo(&turn, &network, &record, error, attempted).await);
            }
        };
        tracing::info!(
            id,
            network = network.name,
            ips = ?attached.ips,
            elapsed_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            "pod attached"
        );
        Ok(attached)
    }

    /// The default network; the configuration is read again when there is none, so that a
    /// change which was not noticed does no harm.
    async fn default_network(&self) -> Result<Arc<Network>, NetworkError> {
        if let Ok(network) = self.current.default_network() {
            return Ok(network);
        }
        self.refresh().await;
        Ok(self.current.default_network()?)
    }

    async fn write_intent(&self, record: &Record) -> Result<(), NetworkError> {
        let (cache, record) = (self.cache.clone(), record.clone());
        off_thread(&record.container_id.clone(), Command::Add, move || {
            if let Some(found) = cache.of(&record.container_id)?.into_iter().next() {
                return Err(NetworkError::AlreadyAttached {
                    sandbox_id: record.container_id,
                    path: match found {
                        Found::Record(path, _) | Found::Damaged(path, _) => path,
                    },
                });
            }
            cache.store(&record)
        })
        .await
    }

    async fn add(
        &self,
        turn: &Turn,
        network: &Network,
        record: &mut Record,
    ) -> Result<Attachment, AddFailed> {
        let deadline = Instant::now() + self.settings.add_timeout;
        let result = self
            .chain(turn, network, record, &record.netns)
            .add(deadline)
            .await?;
        let all = network.plugins.len();
        let ips = result.ips(INTERFACE);
        if ips.is_empty() {
            let error = NetworkError::NoAddress {
                sandbox_id: record.container_id.clone(),
                network: network.name.clone(),
                interface: INTERFACE.to_owned(),
            };
            return Err(AddFailed {
                error,
                attempted: all,
            });
        }
        record.result = Some(result.document().clone());
        let (cache, stored) = (self.cache.clone(), record.clone());
        off_thread(&record.container_id, Command::Add, move || {
            cache.store(&stored)
        })
        .await
        .map_err(|error| AddFailed {
            error,
            attempted: all,
        })?;
        fault::point("cni.result-kept");
        Ok(Attachment {
            ips,
            result: result.upgraded(),
        })
    }

    /// Runs DEL for what was attempted and drops the intent. Returns the error to report.
    async fn undo(
        &self,
        turn: &Turn,
        network: &Network,
        record: &Record,
        error: NetworkError,
        attempted: usize,
    ) -> NetworkError {
        let deadline = Instant::now() + self.settings.del_timeout;
        let chain = self.chain(turn, network, record, &record.netns);
        let cleaned = match chain.del(attempted, record.result.as_ref(), deadline).await {
            Ok(()) => {
                let (cache, record) = (self.cache.clone(), record.clone());
                off_thread(chain.sandbox_id, Command::Del, move || {
                    cache.forget(&record)
                })
                .await
            }
            failed => failed,
        };
        match cleaned {
            Ok(()) => error,
            Err(cleanup) => NetworkError::CleanUp {
                attach: Box::new(error),
                cleanup: Box::new(cleanup),
            },
        }
    }

    pub(super) fn chain<'a>(
        &'a self,
        turn: &'a Turn,
        network: &'a Network,
        record: &'a Record,
        netns: &'a str,
    ) -> Chain<'a> {
        Chain {
            turn,
            network,
            plugin_dirs: &self.settings.plugin_dirs,
            sandbox_id: &record.container_id,
            interface: &record.if_name,
            netns,
            cni_args: record.cni_args.as_deref().unwrap_or_default(),
            capability_args: record.capability_args.as_ref(),
        }
    }
}
