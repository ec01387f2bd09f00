//! The pause process: only for pods whose containers share a PID namespace.
//!
//! It runs by the OCI runtime in a root directory that holds nothing but the pause binary, so that
//! a container that looks at its pid 1 finds no file of the node.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::record::Pause;
use super::{Record, SandboxError, Sandboxes};
use crate::runtime::{Monitor, NewContainer, Status, Watch};
use crate::security::selinux;
use crate::security::users::{self, Accounts};
use crate::spec::PauseInputs;
use crate::spec::{self};
use crate::state::RunDir;
use crate::sys::{blocking, fault, mounts, passage, pidfd};

/// Directory of the pause process's bundle within the sandbox's directory.
const BUNDLE: &str = "pause";
/// How long a killed pause process may take to be gone.
const KILL_WAIT: Duration = Duration::from_secs(30);

/// Makes the bundle and starts the process. Returns it with a watch on its end.
///
/// # Errors
/// When the bundle cannot be written or the runtime refuses; [`stop`] undoes what was made.
pub(super) async fn start(
    sandboxes: &Arc<Sandboxes>,
    record: &Record,
) -> Result<(Pause, Watch), SandboxError> {
    let bundle = sandboxes.rooms.run_dir.sandbox(&record.id).join(BUNDLE);
    let (this, owned, target) = (Arc::clone(sandboxes), record.clone(), bundle.clone());
    blocking(move || write_bundle(&this, &owned, &target)).await?;
    fault::point("pause.bundle-made");
    let handler = sandboxes.rooms.handlers.get(&record.handler)?;
    let new = NewContainer {
        id: record.id.as_str(),
        bundle: &bundle,
        cgroup_parent: &record.config.cgroup_parent,
        log_path: "",
        terminal: false,
        stdin: false,
        stdin_once: false,
        cancelled: &CancellationToken::new(),
    };
    let (pid, watch) = Monitor::create(&handler, &sandboxes.rooms.cgroups, new).await?;
    let start_time = pidfd::start_time(pid)
        .map_err(SandboxError::io("look at the pause process of", &bundle))?
        .ok_or(SandboxError::PauseEnded)?;
    Monitor::of(bundle).start(&record.runtime).await?;
    Ok((Pause { pid, start_time }, watch))
}

/// Makes the place of the pause processes' roots: Debian has /run mounted `noexec`. An OCI runtime
/// takes that off a root, but cannot in a user namespace.
///
/// # Errors
/// When it cannot be made or mounted.
pub(super) fn prepare(run_dir: &RunDir) -> Result<(), SandboxError> {
    let place = run_dir.pauses();
    fs::create_dir_all(&place).map_err(SandboxError::io("create the directory", &place))?;
    let made = mounts::make_executable(&place);
    let made = made.map_err(SandboxError::io("mount without noexec", &place))?;
    if made {
        tracing::debug!(place = %place.display(), "mounted without noexec");
    }
    Ok(())
}

/// A watch on the end of a pause process that an earlier daemon started; `None` when its monitor
/// has gone.
pub async fn watch(directory: &Path) -> Option<Watch> {
    Monitor::of(directory.join(BUNDLE)).watch().await.ok()
}

/// Whether the process is there, or may be.
pub(super) fn lives(Pause { pid, start_time }: Pause) -> bool {
    !matches!(pidfd::Process::open(pid, Some(start_time)), Ok(None))
}

/// Waits for the end of the process. One whose monitor goes without telling of it lives on: it is
/// watched itself then. What the monitor told, for the log.
pub(super) async fn ended(
    Pause { pid, start_time }: Pause,
    watch: Option<Watch>,
) -> Option<Status> {
    if let Some(watch) = watch {
        match watch.exited(|_| {}).await {
            Ok(Some(status)) => return Some(status),
            Ok(None) => {}
            Err(error) => tracing::warn!(pid, %error, "the pause monitor's answer is not usable"),
        }
    }
    let process = pidfd::Process::open_patiently(pid, start_time).await?;
    tracing::warn!(pid, "the pause process has lost its monitor, and goes on");
    if let Err(error) = process.ended().await {
        tracing::error!(pid, %error, "the pause process cannot be watched");
    }
    None
}

/// Ends the process and removes what the runtime keeps of it. Gone already is fine.
///
/// SIGKILL at once: a SIGTERM that comes before the process has its handler is lost, because the
/// kernel spares the first process of a PID namespace.
///
/// # Errors
/// When the runtime cannot remove it.
pub(super) async fn stop(sandboxes: &Sandboxes, record: &Record) -> Result<(), SandboxError> {
    let bundle = sandboxes.rooms.run_dir.sandbox(&record.id).join(BUNDLE);
    if !fs::exists(&bundle).unwrap_or(true) {
        return Ok(());
    }
    let open = |Pause { pid, start_time }| pidfd::Process::open(pid, Some(start_time));
    let process = record.pause.map(open).transpose();
    let process = process.map_err(SandboxError::io("open the pause process of", &bundle))?;
    if let Some(process) = process.flatten() {
        process.kill();
        // A frozen cgroup above keeps even this one.
        tokio::time::timeout(KILL_WAIT, process.ended())
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(SandboxError::io(
                "wait for the killed pause process of",
                &bundle,
            ))?;
        fault::point("pause.killed");
    }
    if record.pause.is_none() {
        Monitor::of(bundle.clone()).end().await;
    }
    // Forced: a process that was created and never recorded has to go too.
    record
        .runtime
        .delete(record.id.as_str(), record.pause.is_none())
        .await?;
    fault::point("pause.deleted");
    // What it writes into the bundle would be in the way of removing that.
    Monitor::of(bundle.clone()).gone().await;
    // The bundle last: it is what says that there is something to remove.
    let root = sandboxes.rooms.run_dir.pause_root(&record.id);
    for directory in [&root, &bundle] {
        match fs::remove_dir_all(directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(SandboxError::io("remove the bundle", directory)(error));
            }
            _ => {}
        }
    }
    fault::point("pause.gone");
    Ok(())
}

/// The root of a pod with a user namespace mounts the root filesystem, so it has to get there and
/// finds the places of /proc and /dev.
fn let_in(run_dir: &RunDir, root: &Path) -> Result<(), SandboxError> {
    for name in ["proc", "dev"] {
        let place = root.join(name);
        fs::create_dir_all(&place).map_err(SandboxError::io("create the directory", &place))?;
    }
    match passage::open(run_dir.top(), root).map_err(SandboxError::io("open the way to", root))? {
        None => Ok(()),
        Some(path) => Err(SandboxError::Unreachable { path }),
    }
}

fn write_bundle(sandboxes: &Sandboxes, record: &Record, bundle: &Path) -> Result<(), SandboxError> {
    let run_dir = &sandboxes.rooms.run_dir;
    let root = run_dir.pause_root(&record.id);
    for directory in [bundle, &root] {
        fs::create_dir_all(directory)
            .map_err(SandboxError::io("create the directory", directory))?;
    }
    if record.namespaces.user.is_some() {
        let_in(run_dir, &root)?;
    }
    let binary = &sandboxes.settings.pause;
    fs::copy(binary, root.join("pause"))
        .map_err(SandboxError::io("copy the pause binary from", binary))?;
    if let Some(labels) = &record.selinux {
        for path in [&root, &root.join("pause")] {
            selinux::set(path, &labels.mount)?;
        }
    }
    // By numbers alone: there is no /etc/passwd beside the pause binary.
    let request = spec::pause_user_request(&record.config.security);
    let user = users::lookup(&request, &Accounts::default())?;
    let created = jiff::Timestamp::from_nanosecond(record.created_at_ns.into());
    let (cgroups, parent) = (&sandboxes.rooms.cgroups, &record.config.cgroup_parent);
    // a pod that may hold privileged containers keeps nothing in by its pause process
    let confined = record
        .selinux
        .as_ref()
        .filter(|_| !record.config.security.privileged);
    let label = confined.map_or("", |labels| labels.process.as_str());
    let handler = sandboxes.rooms.handlers.get(&record.handler)?;
    let containers = &sandboxes.rooms.containers;
    let cpu = containers.workload_cpu(&record.config.annotations, &handler, spec::PAUSE)?;
    let inputs = PauseInputs {
        pod: &sandboxes.spec_of(record),
        root: &root,
        binary: "/pause",
        user: &user,
        cgroups_path: &cgroups.container_path(parent, record.id.as_str())?,
        selinux_label: label,
        cpuset_cpus: &sandboxes.settings.pause_cpuset,
        cpu: &cpu,
        created: &created.map(|time| time.to_string()).unwrap_or_default(),
        host: &sandboxes.settings.host,
    };
    let path = bundle.join("config.json");
    let text = serde_json::to_vec(&spec::pause(&inputs)?)
        .map_err(|error| SandboxError::io("write", &path)(error.into()))?;
    fs::write(&path, text).map_err(SandboxError::io("write", &path))
}
