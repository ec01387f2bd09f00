//! Host ports: ports of the node that lead to a pod, in a table of nf_tables of our own.
//!
//! What is in the table is a function of who has claimed which port (`claims`, `table`, `rules`), so
//! it can be written anew at any time: at the start, and when others have changed it (`follow`).
//! A change is one transaction over netlink (`batch`, `kernel`); no program is run. Pods without
//! host ports cost nothing, and a node without them has no table.
//!
//! Left to others: that the ports lead nowhere any more when a pod stops is asked for by `sandbox`,
//! and whether host ports are ours or the CNI plugins' too (`disable_hostport_mapping`). Packets that
//! a firewall of the node drops are the firewall's.
//!
//! The table stays once it was made, until the node boots: its guard protects interfaces that
//! have `route_localnet`.

mod attributes;
mod batch;
mod claims;
mod conntrack;
mod follow;
mod kernel;
mod localnet;
mod rules;
mod table;
pub(super) mod taken;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;

pub use claims::Target;

use super::error::{Command, NetworkError};
use super::pod::{PortMapping, Protocol};
use super::result::addresses_of;
use super::{INTERFACE, off_thread};
use claims::{Claim, Claims};
use conntrack::Ways;
use kernel::Kernel;
use table::{Element, Elements, elements, udp_ports};

/// How many sockets of ours are remembered: a new one is opened after an error.
const OWN_SOCKETS: usize = 16;

/// A pod that wants host ports.
#[derive(Debug, Clone, Copy)]
pub struct Owner<'a> {
    /// The sandbox id.
    pub sandbox_id: &'a str,
    /// `namespace/name`, for those who are in its way.
    pub name: &'a str,
}

/// A pod that had host ports when the daemon was here last.
#[derive(Debug, Clone)]
pub struct Former {
    /// The sandbox id.
    pub sandbox_id: String,
    /// `namespace/name`.
    pub name: String,
    /// What it had claimed.
    pub mappings: Vec<PortMapping>,
    /// What CNI answered to ADD, in a 1.x form.
    pub result: Option<Value>,
}

/// The host ports of the node.
#[derive(Debug)]
pub struct HostPorts {
    /// The name of the table, in family `inet`.
    table: String,
    claims: Mutex<Claims>,
    /// What is in the kernel. Held while it is changed; taken before `claims`.
    applied: Mutex<Applied>,
    /// By which the kernel calls the sockets that we change the table by.
    own_sockets: Mutex<Vec<u32>>,
    followed: AtomicBool,
}

#[derive(Debug, Default)]
struct Applied {
    kernel: Option<Kernel>,
    /// `None`: not known, so that it has to be written anew.
    elements: Option<Elements>,
    /// There was a table once.
    made: bool,
    /// Something could not be written.
    failed: bool,
}

impl HostPorts {
    pub(super) fn new(table: String) -> Arc<Self> {
        Arc::new(Self {
            table,
            claims: Mutex::default(),
            applied: Mutex::default(),
            own_sockets: Mutex::default(),
            followed: AtomicBool::new(false),
        })
    }

    /// The table's name, in family `inet`.
    pub fn table(&self) -> &str {
        &self.table
    }

    /// Claims a pod's host ports, before anything is made for it. Claiming none does nothing.
    ///
    /// # Errors
    /// When another pod has one of them; it is named.
    pub fn claim(&self, owner: &Owner<'_>, mappings: &[PortMapping]) -> Result<(), NetworkError> {
        if mappings.iter().all(|mapping| mapping.host_port == 0) {
            return Ok(());
        }
        Ok(locked(&self.claims).claim(owner, mappings)?)
    }

    /// Leads the ports that a pod has claimed to its addresses: the first of each family in what
    /// CNI has answered to ADD.
    ///
    /// # Errors
    /// When the kernel cannot; nothing leads to the pod then.
    pub async fn open(
        self: &Arc<Self>,
        sandbox_id: &str,
        result: &Value,
    ) -> Result<(), NetworkError> {
        if !locked(&self.claims).lead_to(sandbox_id, targets(result)) {
            return Ok(());
        }
        self.follow();
        let (this, id) = (Arc::clone(self), sandbox_id.to_owned());
        off_thread(sandbox_id, Command::Add, move || {
            let claim = locked(&this.claims).of(&id).cloned();
            this.apply(false)
                .map_err(|source| this.error(&id, source))?;
            if let Some(claim) = claim {
                this.clear_the_way(&id, &claim);
            }
            Ok(())
        })
        .await
    }

    /// Ends what leads to a pod and gives its ports back. What the kernel refuses is tried again
    /// later: it keeps no pod from being removed.
    ///
    /// A pod whose stop an earlier daemon has begun has no claim any more: then its record says which
    /// ports those were, and what CNI answered to ADD.
    pub async fn close(
        self: &Arc<Self>,
        sandbox_id: &str,
        recorded: &[PortMapping],
        result: Option<&Value>,
    ) {
        let claim = {
            let mut claims = locked(&self.claims);
            let claim = claims.of(sandbox_id).cloned();
            claims.lead_to(sandbox_id, Vec::new());
            claim
        };
        let led = match claim {
            // They have led nowhere.
            Some(claim) if claim.targets.is_empty() => None,
            Some(claim) => Some((claim.mappings, claim.targets)),
            // Nothing leads there any more but what the kernel remembers of UDP.
            None => recorded
                .iter()
                .any(is_udp)
                .then(|| (recorded.to_vec(), result.map(targets).unwrap_or_default())),
        };
        if let Some((mappings, targets)) = led {
            let (this, id) = (Arc::clone(self), sandbox_id.to_owned());
            let closed = off_thread(sandbox_id, Command::Del, move || {
                let applied = this.apply(false);
                // Also when that has failed: the pod's addresses become others' all the same.
                this.forget(&id, &mappings, &targets);
                applied.map_err(|source| this.error(&id, source))
            })
            .await;
            if let Err(error) = closed {
                tracing::error!(%error, "host ports not closed, tried again");
            }
        }
        locked(&self.claims).release(sandbox_id);
    }

    /// Takes over what an earlier daemon has left: these pods have their ports, and nobody else.
    pub async fn restore(self: &Arc<Self>, pods: Vec<Former>) {
        for pod in &pods {
            let owner = Owner {
                sandbox_id: &pod.sandbox_id,
                name: &pod.name,
            };
            match self.claim(&owner, &pod.mappings) {
                Ok(()) => {
                    let targets = pod.result.as_ref().map(targets).unwrap_or_default();
                    locked(&self.claims).lead_to(&pod.sandbox_id, targets);
                }
                Err(error) => {
                    tracing::error!(id = pod.sandbox_id, %error, "host port not restored")
                }
            }
        }
        let this = Arc::clone(self);
        let wanted = locked(&self.claims).all().next().is_some();
        let restored = off_thread("", Command::Add, move || {
            this.apply(true).map_err(|source| this.error("", source))
        });
        if let Err(error) = restored.await {
            tracing::error!(%error, "host ports not restored, tried again");
        }
        if wanted {
            self.follow();
        }
    }

    /// The sandboxes that our table in the kernel leads to. Blocks.
    ///
    /// # Errors
    /// When the kernel cannot tell.
    pub fn holders(&self) -> Result<BTreeSet<String>, NetworkError> {
        let read = || {
            let mut kernel = Kernel::open(&self.table)?;
            if !kernel.has_table()? {
                return Ok(BTreeSet::new());
            }
            let all = kernel.elements()?.into_values();
            Ok(all.map(|element| element.sandbox_id).collect())
        };
        read().map_err(|source| self.error("", source))
    }

    /// Removes what leads to these sandboxes, which nobody owns. Blocks.
    ///
    /// # Errors
    /// When the kernel cannot.
    pub fn sweep(&self, sandbox_ids: &BTreeSet<String>) -> Result<(), NetworkError> {
        let mut applied = locked(&self.applied);
        let sweep = || {
            let mut kernel = Kernel::open(&self.table)?;
            let all = kernel.elements()?;
            let is_swept = |element: &Element| sandbox_ids.contains(&element.sandbox_id);
            let (gone, kept): (Elements, Elements) = all
                .clone()
                .into_iter()
                .partition(|(_, element)| is_swept(element));
            self.note_own(&kernel)?;
            kernel.change(&all, &kept)?;
            Ok(udp_ports(&gone))
        };
        let swept = sweep();
        applied.elements = None;
        drop(applied);
        let ports = swept.map_err(|source| self.error("", source))?;
        self.forget("", &ports, &[]);
        Ok(())
    }

    /// Makes the table what it is to be; when `anew`, whatever it seems to be. What was sent past it
    /// before that then goes by it. Blocks.
    fn apply(&self, anew: bool) -> io::Result<()> {
        let ports = self.write(anew)?;
        self.forget("", &ports, &[]);
        Ok(())
    }

    /// Writes the table. When it was written anew, nobody knows what was true of it meanwhile: then
    /// these are the UDP ports that it had and has, by which connections may go elsewhere.
    fn write(&self, anew: bool) -> io::Result<Vec<PortMapping>> {
        let mut applied = locked(&self.applied);
        let wanted = elements(&locked(&self.claims));
        let old = applied.elements.take().filter(|_| !anew);
        if old.as_ref() == Some(&wanted) {
            applied.elements = old;
            return Ok(Vec::new());
        }
        if let (Some(old), Some(kernel)) = (&old, &mut applied.kernel) {
            if kernel.change(old, &wanted).is_ok() {
                applied.elements = Some(wanted);
                return Ok(Vec::new());
            }
            // Others have changed it, and the news is on its way.
            applied.kernel = None;
        }
        applied.failed = true;
        let mut kernel = match applied.kernel.take() {
            Some(kernel) => kernel,
            None => Kernel::open(&self.table)?,
        };
        if wanted.is_empty() && !applied.made && !kernel.has_table()? {
            applied.failed = false;
            return Ok(Vec::new());
        }
        self.note_own(&kernel)?;
        // Where they led until now. When that cannot be read, there is the more reason to write.
        let mut ports = udp_ports(&kernel.elements().unwrap_or_default());
        kernel.replace(&wanted)?;
        ports.extend(udp_ports(&wanted));
        *applied = Applied {
            kernel: Some(kernel),
            elements: Some(wanted),
            made: true,
            failed: false,
        };
        Ok(ports)
    }

    /// Tries again what did not work.
    async fn settle(self: &Arc<Self>) {
        if locked(&self.applied).failed {
            self.put_anew("after an error").await;
        }
    }

    /// Writes the table anew after others have changed it.
    async fn put_back(self: &Arc<Self>, by: &str) {
        tracing::warn!(
            table = self.table,
            "nftables table of host ports was changed by {by}; it is put back"
        );
        self.put_anew("after a change by others").await;
    }

    /// Writes the table anew when it is not what it is to be: without hearing of changes.
    async fn look(self: &Arc<Self>) {
        let this = Arc::clone(self);
        let same = tokio::task::spawn_blocking(move || -> io::Result<bool> {
            let wanted = elements(&locked(&this.claims));
            let mut kernel = Kernel::open(&this.table)?;
            Ok(kernel.has_table()? && kernel.elements()? == wanted)
        });
        if !matches!(same.await, Ok(Ok(true))) {
            self.put_anew("after a look").await;
        }
    }

    async fn put_anew(self: &Arc<Self>, why: &'static str) {
        let this = Arc::clone(self);
        let put = off_thread("", Command::Add, move || {
            this.apply(true).map_err(|source| this.error("", source))
        });
        if let Err(error) = put.await {
            tracing::error!(%error, "host ports not written {why}, tried again");
        }
    }

    /// What has to be true beside the table: nothing remembers where the ports led before, and
    /// there is a way from loopback. A pod does not fail by it.
    fn clear_the_way(&self, sandbox_id: &str, claim: &Claim) {
        for (mapping, target) in claim.ways() {
            let from_loopback = mapping
                .host_ip
                .is_none_or(|host| host.is_unspecified() || host.is_loopback());
            if let (IpAddr::V4(pod), true) = (target.address, from_loopback)
                && let Err(error) = localnet::let_out(pod)
            {
                tracing::warn!(
                    id = sandbox_id, %pod, %error,
                    "host ports of this pod cannot be reached by 127.0.0.1: route_localnet not set"
                );
            }
        }
        self.forget(sandbox_id, &claim.mappings, &claim.targets);
    }

    /// Ends UDP connections by these ports that go elsewhere than the ports lead now. Those would last
    /// as long as somebody sends. No other protocol's, and nothing is asked where there is no UDP.
    fn forget(&self, sandbox_id: &str, mappings: &[PortMapping], pods: &[Target]) {
        let mut ways = Ways::default();
        for mapping in mappings {
            ways.add(mapping, None);
        }
        if ways.is_empty() {
            return;
        }
        for (_, claim) in locked(&self.claims).all() {
            for (mapping, target) in claim.ways() {
                if ways.has(mapping.host_port) {
                    ways.add(mapping, Some(target.address));
                }
            }
        }
        let pods: Vec<IpAddr> = pods.iter().map(|target| target.address).collect();
        if let Err(error) = conntrack::forget_astray(&ways, &pods) {
            tracing::warn!(
                id = sandbox_id, %error,
                "earlier UDP connections by host ports not ended (nf_conntrack_netlink)"
            );
        }
    }

    fn follow(self: &Arc<Self>) {
        if self.followed.swap(true, Ordering::Relaxed) {
            return;
        }
        if let Err(error) = follow::start(self) {
            self.followed.store(false, Ordering::Relaxed);
            tracing::warn!(%error, "changes of nftables cannot be heard");
        }
    }

    fn note_own(&self, kernel: &Kernel) -> io::Result<()> {
        let port = kernel.port()?;
        let mut own = locked(&self.own_sockets);
        if !own.contains(&port) {
            own.push(port);
            let more = own.len().saturating_sub(OWN_SOCKETS);
            own.drain(..more);
        }
        Ok(())
    }

    fn is_own(&self, port: u32) -> bool {
        locked(&self.own_sockets).contains(&port)
    }

    fn error(&self, sandbox_id: &str, source: io::Error) -> NetworkError {
        NetworkError::HostPorts {
            sandbox_id: sandbox_id.to_owned(),
            table: self.table.clone(),
            source,
        }
    }
}

/// The first address of each family in an answer of CNI's.
fn targets(result: &Value) -> Vec<Target> {
    let mut targets: Vec<Target> = Vec::new();
    for (address, prefix) in addresses_of(result, INTERFACE) {
        let known = |target: &Target| target.address.is_ipv4() == address.is_ipv4();
        if !targets.iter().any(known) {
            targets.push(Target { address, prefix });
        }
    }
    targets
}

fn is_udp(mapping: &PortMapping) -> bool {
    mapping.protocol == Protocol::Udp && mapping.host_port != 0
}

/// A panic elsewhere leaves these whole: every change is one call.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
