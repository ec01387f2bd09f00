//! Operations on a network as a whole, which CNI 1.1 has: STATUS and GC.
//!
//! A task of its own asks the plugins of the default network for their STATUS: often until they
//! are ready, seldom afterwards, and at once when the configuration changes. `readiness` answers
//! from what they have said last. When they are ready for the first time after the start, they are
//! told which attachments are valid, and release the rest (GC); again later, when pods were in the
//! way of that. Networks of an older version are ready when their configuration and plugins are
//! there, and are never asked.

use std::sync::{Arc, Weak};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::config::Network;
use super::error::{Command, NotReady, PluginFailure};
use super::plugin::{self, Call, ForWhom};
use super::{Networks, off_thread};

/// How often plugins that are ready are asked whether they still are.
const WHEN_READY: Duration = Duration::from_secs(15);
/// How often plugins that are not ready are asked.
const WHEN_NOT: Duration = Duration::from_secs(1);
/// How long all plugins of a network may take to tell their status.
const STATUS_TIME: Duration = Duration::from_secs(10);
/// How long they may take to collect garbage.
const GC_TIME: Duration = Duration::from_secs(30);
/// How long a pod waits for that at most: then it is given up. The plugin is killed, for it must not
/// run beside an ADD (CNI specification, section 2, GC): it would release what the new pod gets.
const GC_PATIENCE: Duration = Duration::from_secs(1);
/// How often there is another look whether nothing runs, so that garbage can be collected.
const GC_PAUSE: Duration = Duration::from_secs(1);
/// How many looks there are before that counts as given up, too.
const GC_LOOKS: usize = 120;
/// After which pauses it is tried again when it was given up. At a node's boot all pods come at once,
/// some minutes later there is a quiet moment; on a node that never has one the garbage stays until
/// the next start.
const GC_AGAIN: [Duration; 3] = [
    Duration::from_secs(60),
    Duration::from_secs(5 * 60),
    Duration::from_secs(30 * 60),
];

/// The keys under which plugins get the attachments that are valid. The first is the CNI
/// specification's (GC), the second that of an earlier text of it, by which plugins were written;
/// libcni sends both.
const VALID: [&str; 2] = ["cni.dev/valid-attachments", "cni.dev/attachments"];

/// What has become of a collection of garbage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Collection {
    /// Plugins were told, or are not to be told.
    Done,
    /// Pods were attached or detached all the time.
    Busy,
    /// Pods waited for it.
    GivenUp,
}

/// What the plugins have said last.
#[derive(Debug)]
pub(super) struct Health(watch::Sender<Option<Said>>);

#[derive(Debug, Clone)]
struct Said {
    /// Of which reading of the configuration.
    network: Arc<Network>,
    answer: Result<(), NotReady>,
    /// Since when it is not ready, in spite of which the last answer counts for a while.
    failing: Option<Instant>,
}

impl Default for Health {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl Health {
    /// Whether the plugins of the network say that pods can be attached.
    pub(super) fn of(&self, network: &Arc<Network>) -> Result<(), NotReady> {
        if !network.has_status_and_gc() {
            return Ok(());
        }
        let said = self.0.borrow();
        let said = said
            .as_ref()
            .filter(|said| Arc::ptr_eq(&said.network, network));
        match said {
            Some(said) => said.answer.clone(),
            None => Err(NotReady {
                reason: format!(
                    "network {:?}: its plugins are being asked for their STATUS",
                    network.name
                ),
            }),
        }
    }

    /// Waits until the plugins have said something that makes `wanted` hold, for so long.
    pub(super) async fn until(&self, patience: Duration, wanted: impl Fn() -> bool) {
        let mut changes = self.0.subscribe();
        // The sender lives as long as we do, so the wait ends by the condition or the time.
        let _ = timeout(patience, changes.wait_for(|_| wanted())).await;
    }

    /// Takes an answer. One that is not good counts when there was none for `grace`.
    fn take(&self, network: &Arc<Network>, answer: Result<(), NotReady>, grace: Duration) {
        self.0.send_if_modified(|last| {
            let old = last
                .take()
                .filter(|said| Arc::ptr_eq(&said.network, network));
            let was_ready = old.as_ref().is_some_and(|said| said.answer.is_ok());
            let failing = answer.as_ref().err().map(|_| {
                let since = old.as_ref().and_then(|said| said.failing);
                since.unwrap_or_else(Instant::now)
            });
            let spared = was_ready && failing.is_some_and(|since| since.elapsed() < grace);
            let answer = if spared { Ok(()) } else { answer };
            let changed = old.as_ref().map(|said| &said.answer) != Some(&answer);
            if changed {
                report(network, &answer);
            }
            *last = Some(Said {
                network: Arc::clone(network),
                answer,
                failing,
            });
            changed
        });
    }
}

fn report(network: &Network, answer: &Result<(), NotReady>) {
    match answer {
        Ok(()) => tracing::info!(
            network = network.name,
            "CNI plugins say that they are ready"
        ),
        Err(reason) => tracing::warn!(network = network.name, %reason, "network not ready"),
    }
}

impl Networks {
    /// Has plugins release what belongs to no attachment that is recorded, once they are ready.
    /// Called once, when what an earlier daemon has left is known.
    pub fn collect_garbage(self: &Arc<Self>) {
        tokio::spawn(collect_garbage(Arc::downgrade(self), &GC_AGAIN));
    }

    /// Collects the network's garbage when nothing runs.
    pub(super) async fn collect(&self, network: &Network) -> Collection {
        if !network.has_status_and_gc() || network.disables_gc {
            return Collection::Done;
        }
        let Some(alone) = self.admission.alone() else {
            return Collection::Busy;
        };
        let (cache, name) = (self.cache.clone(), network.name.clone());
        let valid = off_thread("", Command::Gc, move || cache.attachments_of(&name)).await;
        let valid = match valid {
            Ok(valid) => valid,
            Err(error) => {
                tracing::warn!(network = network.name, %error, "CNI plugins not told to collect garbage");
                return Collection::Done;
            }
        };
        let kept = valid.len();
        let valid = valid
            .into_iter()
            .map(|(sandbox_id, interface)| json!({"containerID": sandbox_id, "ifname": interface}));
        let valid = Value::Array(valid.collect());
        tokio::select! {
            () = self.have_collected(network, &valid) => {
                tracing::debug!(
                    network = network.name, kept, "CNI plugins were told to collect garbage"
                );
                Collection::Done
            }
            // What is dropped here kills the plugin that runs.
            () = alone.waited_for(GC_PATIENCE) => Collection::GivenUp,
        }
    }

    /// Tells all plugins of a network which attachments are valid, whatever the others say.
    async fn have_collected(&self, network: &Network, valid: &Value) {
        let deadline = Instant::now() + GC_TIME;
        let valid = VALID.map(|key| (key, valid.clone()));
        for plugin in &network.plugins {
            let request = plugin.request_of_network(network, &valid);
            let told = self.run_for_network(Command::Gc, &plugin.kind, &request, deadline);
            if let Err(error) = told.await {
                tracing::warn!(
                    network = network.name, plugin = plugin.kind, %error, "CNI GC did not work"
                );
            }
        }
    }

    /// Asks the plugins of the default network, if they know STATUS. When to ask again.
    async fn ask_for_status(&self) -> Option<Duration> {
        let network = self.current.default_network().ok()?;
        if !network.has_status_and_gc() {
            return None;
        }
        let deadline = Instant::now() + STATUS_TIME;
        let mut answer = Ok(());
        for plugin in &network.plugins {
            let request = plugin.request_of_network(&network, &[]);
            let said = self.run_for_network(Command::Status, &plugin.kind, &request, deadline);
            if let Err(failure) = said.await {
                let (name, plugin) = (&network.name, &plugin.kind);
                answer = Err(NotReady {
                    reason: format!("network {name:?}: plugin {plugin:?} STATUS: {failure}"),
                });
                break;
            }
        }
        let ready = answer.is_ok();
        self.health
            .take(&network, answer, self.settings.status_grace);
        Some(if ready { WHEN_READY } else { WHEN_NOT })
    }

    async fn run_for_network(
        &self,
        command: Command,
        kind: &str,
        stdin: &[u8],
        deadline: Instant,
    ) -> Result<(), PluginFailure> {
        let dirs = &self.settings.plugin_dirs;
        let path = plugin::find(kind, dirs)?;
        let env = plugin::variables(command, dirs, &ForWhom::default());
        let call = Call {
            path: &path,
            env: &env,
            stdin,
            deadline,
        };
        plugin::run(&call, |_| ()).await.map(drop)
    }
}

/// Collects garbage once plugins are ready, and again after each of `pauses` as long as that is given
/// up. Whether it was done in the end.
pub(super) async fn collect_garbage(networks: Weak<Networks>, pauses: &[Duration]) -> bool {
    let mut pauses = pauses.iter();
    loop {
        let Some(network) = first_ready(&networks).await else {
            return false;
        };
        let why = match in_a_quiet_moment(&networks, &network).await {
            Collection::Done => return true,
            Collection::Busy => "pods were attached and detached all the time".to_owned(),
            Collection::GivenUp => format!("pods waited for it for {GC_PATIENCE:?}"),
        };
        let Some(pause) = pauses.next() else {
            tracing::warn!(
                network = network.name,
                "CNI GC given up until the next start, as the times before: {why}; addresses that \
                 pods have left behind stay taken until then"
            );
            return false;
        };
        tracing::info!(
            network = network.name,
            "CNI GC given up: {why}; it is tried again in {} s",
            pause.as_secs()
        );
        sleep(*pause).await;
    }
}

/// Waits until nothing runs, and collects then.
async fn in_a_quiet_moment(networks: &Weak<Networks>, network: &Network) -> Collection {
    for _ in 0..GC_LOOKS {
        let Some(networks) = networks.upgrade() else {
            return Collection::Done;
        };
        match networks.collect(network).await {
            Collection::Busy => {}
            outcome => return outcome,
        }
        drop(networks);
        sleep(GC_PAUSE).await;
    }
    Collection::Busy
}

/// Waits for the first network that is ready; `None`: there are no networks any more.
async fn first_ready(networks: &Weak<Networks>) -> Option<Arc<Network>> {
    loop {
        let all = networks.upgrade()?;
        if let Ok(network) = all.current.default_network()
            && all.health.of(&network).is_ok()
        {
            return Some(network);
        }
        drop(all);
        // Whatever changes, one of both tells; a short sleep spares a third way to be told.
        sleep(WHEN_NOT).await;
    }
}

/// Asks as long as there are networks.
pub(super) async fn follow(networks: Weak<Networks>) {
    let Some(mut changes) = networks.upgrade().map(|all| all.current.changes()) else {
        return;
    };
    loop {
        let again = match networks.upgrade() {
            Some(networks) => networks.ask_for_status().await,
            None => return,
        };
        let pause = async {
            match again {
                Some(pause) => sleep(pause).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = changes.changed() => if changed.is_err() {
                return;
            },
            () = pause => {}
        }
    }
}
