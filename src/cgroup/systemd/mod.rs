//! Asking systemd for units: scopes for monitors, slices for pods, and to forget what has failed.
//!
//! Containers' scopes are not made here: the OCI runtime does that. The D-Bus client below knows
//! what these few calls need and no more (ARCHITECTURE.md has the figures of a whole one).
//!
//! systemd answers a call with a job and tells its end by a signal, which gets lost when PID 1 or
//! the bus starts anew at that moment. So whoever waits also looks, once a second, whether what the
//! job is for has come about: the process is in its scope, the slice has its directory.

mod bus;
mod call;
mod connection;
mod greeting;
mod link;
mod message;
#[cfg(test)]
mod tests;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::error::{CgroupError, quote};
use bus::Bus;
use call::{Call, Endpoint, Fault};
use message::{Body, Target, Value};

/// How long systemd may take for one unit. It needs milliseconds; when it is late, so is the OCI
/// runtime's own call, for which there is a deadline of minutes.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long an unused connection stays: pods come in bursts.
const IDLE: Duration = Duration::from_secs(10);
/// How often somebody who waits looks at the outcome itself.
const LOOK: Duration = Duration::from_secs(1);
/// The pause before a call is made again that met a PID 1 or a bus on its way up.
const AGAIN: Duration = Duration::from_millis(100);
/// SIGPIPE, which monitors ignore: whoever stops their scope waits until their containers have
/// ended, as with CRI-O's.
const SIGPIPE: i32 = 13;

/// systemd's manager object (org.freedesktop.systemd1(5)).
const MANAGER: Target = Target {
    destination: "org.freedesktop.systemd1",
    path: "/org/freedesktop/systemd1",
    interface: "org.freedesktop.systemd1.Manager",
};
/// The bus itself.
const BUS: Target = Target {
    destination: "org.freedesktop.DBus",
    path: "/org/freedesktop/DBus",
    interface: "org.freedesktop.DBus",
};

/// The unit exists already, perhaps as a failed one of the same name.
const EXISTS: &str = "org.freedesktop.systemd1.UnitExists";
/// There is no such unit: nothing to forget.
const NO_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";
/// What a bus says while systemd is not on it: it executes itself anew.
const AWAY: [&str; 4] = [
    "org.freedesktop.DBus.Error.NameHasNoOwner",
    "org.freedesktop.DBus.Error.ServiceUnknown",
    "org.freedesktop.DBus.Error.NoReply",
    "org.freedesktop.DBus.Error.Disconnected",
];

/// systemd, as this daemon talks to it.
#[derive(Debug)]
pub(super) struct Systemd {
    bus: Arc<Bus>,
    patience: Duration,
}

/// A monitor's scope.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scope<'a> {
    /// The unit's name.
    pub(super) unit: &'a str,
    /// The slice that it is in.
    pub(super) slice: &'a str,
    /// The process in it.
    pub(super) pid: u32,
}

impl Systemd {
    /// That of this host. Nothing is connected before the first call.
    pub(super) fn of_host() -> Systemd {
        let address = std::env::var("DBUS_SYSTEM_BUS_ADDRESS").ok();
        Systemd::at(greeting::endpoints(address.as_deref()), PATIENCE)
    }

    fn at(endpoints: Vec<Endpoint>, patience: Duration) -> Systemd {
        let bus = Bus::new(endpoints, IDLE);
        Systemd { bus, patience }
    }

    /// Moves a process into a scope of its own and waits until it is there.
    pub(super) async fn start_scope(&self, scope: Scope<'_>) -> Result<(), CgroupError> {
        // No default dependencies: those would have systemd stop it as the first thing of a shutdown,
        // while containers still say their last words to it.
        // Delegated: what the kernel kills for lack of memory in it does not end the monitor,
        // as `OOMPolicy` of older systemds cannot say.
        let properties = [
            ("Description", Value::Text("monitor of a container")),
            ("Slice", Value::Text(scope.slice)),
            ("PIDs", Value::Numbers(&[scope.pid])),
            ("DefaultDependencies", Value::Flag(false)),
            ("After", Value::Texts(&["cricket.service"])),
            // In a slice that somebody stops it goes after the containers, too.
            ("Before", Value::Texts(&["cricket-shutdown.service"])),
            ("KillSignal", Value::Number(SIGPIPE)),
            ("CollectMode", Value::Text("inactive-or-failed")),
            ("DelegateControllers", Value::Texts(&[])),
        ];
        let body = Body::default().text(scope.unit).text("fail");
        let call = job("StartTransientUnit", body.properties(&properties));
        let settled = || is_in(scope.pid, scope.unit);
        self.carry_out(scope.unit, "start", &call, &settled).await
    }

    /// Starts a slice, so that its cgroup is systemd's and not a directory of which it knows nothing.
    pub(super) async fn start_slice(
        &self,
        slice: &str,
        settled: &(dyn Fn() -> bool + Sync),
    ) -> Result<(), CgroupError> {
        let call = job("StartUnit", Body::default().text(slice).text("replace"));
        self.carry_out(slice, "start", &call, settled).await
    }

    /// Makes systemd forget a unit that has failed. For one that is not there, there is nothing to do.
    pub(super) async fn forget(&self, unit: &str) -> Result<(), CgroupError> {
        let call = Call {
            is_job: false,
            ..job("ResetFailedUnit", Body::default().text(unit))
        };
        let done = self.carry_out(unit, "reset", &call, &|| false).await;
        match done {
            Err(CgroupError::UnitRefused { name, .. }) if name == NO_UNIT => Ok(()),
            done => done,
        }
    }

    /// Makes a call until it has its effect, its deadline has passed, or it is refused for good.
    async fn carry_out(
        &self,
        unit: &str,
        step: &'static str,
        call: &Call,
        settled: &(dyn Fn() -> bool + Sync),
    ) -> Result<(), CgroupError> {
        let job = Arc::new(OnceLock::new());
        let mut last = None;
        let work = async {
            loop {
                let fault = match self.once(call, &job, settled).await {
                    Ok(()) => return Ok(()),
                    // What was lost, or stood in the way, may be our own call before.
                    Err(_) if settled() => return Ok(()),
                    Err(fault) => fault,
                };
                if fault.is_for(EXISTS) {
                    // One of that name has failed: systemd keeps it until somebody has looked.
                    let reset = Call {
                        is_job: false,
                        ..self::job("ResetFailedUnit", Body::default().text(unit))
                    };
                    // Whether it helped, the next try tells.
                    drop(self.bus.ask(reset, &Arc::default()).await);
                } else if !fault.passes() {
                    return Err(fault);
                }
                last = Some(fault);
                sleep(AGAIN).await;
            }
        };
        match timeout(self.patience, work).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(fault)) => Err(fault.of(unit, step)),
            Err(_) if settled() => Ok(()),
            Err(_) => Err(CgroupError::UnitSlow {
                unit: unit.to_owned(),
                step,
                waited: self.patience,
                problem: match (last, job.get()) {
                    (Some(fault), _) => fault.of(unit, step).to_string(),
                    (None, Some(job)) => format!("its job {} goes on", quote(job)),
                    (None, None) => "it has not answered".to_owned(),
                },
            }),
        }
    }

    async fn once(
        &self,
        call: &Call,
        job: &Arc<OnceLock<String>>,
        settled: &(dyn Fn() -> bool + Sync),
    ) -> Result<(), Fault> {
        let asked = self.bus.ask(call.clone(), job);
        tokio::pin!(asked);
        loop {
            tokio::select! {
                biased;
                outcome = &mut asked => return outcome,
                () = sleep(LOOK) => if settled() {
                    return Ok(());
                },
            }
        }
    }
}

impl Fault {
    fn is_for(&self, reason: &str) -> bool {
        matches!(self, Fault::Refused { name, .. } if name == reason)
    }

    /// Whether the same call may do better in a moment.
    fn passes(&self) -> bool {
        match self {
            Fault::Lost(_) => true,
            Fault::Refused { name, .. } => AWAY.contains(&name.as_str()),
            Fault::Absent(_) | Fault::Job { .. } => false,
        }
    }

    fn of(self, unit: &str, step: &'static str) -> CgroupError {
        let unit = unit.to_owned();
        match self {
            Fault::Absent(problem) | Fault::Lost(problem) => CgroupError::NoBus {
                unit,
                step,
                problem,
            },
            Fault::Refused { name, text } => CgroupError::UnitRefused {
                unit,
                step,
                name: quote(&name),
                text: quote(&text),
            },
            Fault::Job { job, result } => CgroupError::UnitFailed {
                unit,
                step,
                job: quote(&job),
                result: quote(&result),
            },
        }
    }
}

fn job(member: &'static str, body: Body) -> Call {
    Call {
        target: MANAGER,
        member,
        body,
        is_job: true,
    }
}

/// Whether the process is in the scope's cgroup, in whatever hierarchy systemd uses.
fn is_in(pid: u32, unit: &str) -> bool {
    cgroups_of(pid).is_some_and(|cgroups| names(&cgroups, unit))
}

/// Whether the process is there, and elsewhere.
pub(super) fn is_outside(pid: u32, unit: &str) -> bool {
    cgroups_of(pid).is_some_and(|cgroups| !names(&cgroups, unit))
}

fn cgroups_of(pid: u32) -> Option<String> {
    std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()
}

fn names(cgroups: &str, unit: &str) -> bool {
    let mut paths = cgroups
        .lines()
        .filter_map(|line| line.splitn(3, ':').nth(2));
    paths.any(|path| path.split('/').any(|name| name == unit))
}
