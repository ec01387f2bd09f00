//! Wires the rooms together and runs until told to stop.
//!
//! Containers outlive the daemon: stopping it ends nothing but itself.

mod doctor;
mod host;
mod reload;
mod security;
mod service;
mod settings;
#[cfg(test)]
mod tests;
mod wipe;

pub use doctor::{SETTLE, alone, checkup_alone, is_running, lock, open_store};
pub use wipe::Wipe;

use std::fs::File;
use std::future::Future;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cricket_proto::admin::admin_service_server::AdminServiceServer;
use cricket_proto::cri::image_service_server::ImageServiceServer;
use cricket_proto::cri::runtime_service_server::RuntimeServiceServer;
use nix::sys::stat::{Mode, umask};
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::admin::AdminApi;
use crate::cgroup::{CgroupError, Cgroups, Manager};
use crate::config::{self, ConfigError, Loaded};
use crate::container::{self, ContainerError, Containers};
use crate::cri::{self, Identity, ImageApi, RuntimeApi, SocketError};
use crate::hooks;
use crate::image::{ImageError, Images};
use crate::leaks::{self, LeakError, Leaks};
use crate::network::Networks;
use crate::runtime::{Handlers, RuntimeError};
use crate::sandbox::{self, SandboxError, Sandboxes};
use crate::security::apparmor::AppArmorError;
use crate::security::capabilities::CapabilityError;
use crate::security::seccomp::SeccompError;
use crate::security::selinux::{self, SelinuxError};
use crate::state::{RecordError, RunDir};
use crate::storage::{StorageError, Store};
use crate::streaming::{self, Server, StreamingError, Urls};
use crate::sys::{ShuttingDown, blocking, boot, calls, notify};
use crate::telemetry::{self, LogError};

/// Threads that run the async work: reads answer from memory, and all that blocks has threads of
/// its own.
const WORKERS: usize = 2;
/// Most threads for blocking work at once; what is more waits for its turn.
const MAX_BLOCKING: usize = 64;
/// How long an idle thread for blocking work is kept.
const BLOCKING_KEEP: Duration = Duration::from_secs(2);
/// How long open connections may keep a daemon that was told to stop.
const SHUTDOWN: Duration = Duration::from_secs(2);
/// How long a start waits for what a killed daemon has left running to be gone. What hangs in the
/// kernel holds nobody up.
const GONE: Duration = Duration::from_secs(1);
/// The largest message when the configuration gives none (`grpc_max_recv_msg_size`).
const MAX_MESSAGE_BYTES: usize = 80 << 20;

/// The daemon could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The async runtime could not be made.
    #[error("start the async runtime: {0}")]
    Async(io::Error),
    /// The signals that stop it cannot be waited for.
    #[error("wait for SIGTERM and SIGINT: {0}")]
    Signals(io::Error),
    /// The service manager cannot be told how the start goes.
    #[error("open a socket for the service manager: {0}")]
    Notify(io::Error),
    /// It is not known whether what is recorded still runs.
    #[error("read this boot's id in {path}: {0}", path = boot::BOOT_ID)]
    Boot(io::Error),
    /// The log could not be opened.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The configuration names programs that are not there.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The cgroups are not as the configuration says.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// The daemon's own capabilities are not known.
    #[error(transparent)]
    Capability(#[from] CapabilityError),
    /// A configured seccomp profile cannot be used.
    #[error(transparent)]
    Seccomp(#[from] SeccompError),
    /// The configured AppArmor profile cannot be used.
    #[error(transparent)]
    AppArmor(#[from] AppArmorError),
    /// The node's SELinux policy cannot be used.
    #[error(transparent)]
    Selinux(#[from] SelinuxError),
    /// The store cannot be opened.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The default runtime cannot be used.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// Another daemon uses the same run root.
    #[error(transparent)]
    RunDir(#[from] RecordError),
    /// The records of containers cannot be read.
    #[error(transparent)]
    Container(#[from] ContainerError),
    /// The records of pods cannot be read.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// What is left behind cannot be told.
    #[error(transparent)]
    Leaks(#[from] LeakError),
    /// The socket cannot be made.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// Streaming sessions cannot be served.
    #[error(transparent)]
    Streaming(#[from] StreamingError),
    /// registries.conf cannot be used.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// A blocking task was stopped, which happens only while the daemon ends.
    #[error("{0}")]
    ShuttingDown(#[from] ShuttingDown),
    /// The server ended by itself.
    #[error("serve the socket: {0}")]
    Serve(#[from] tonic::transport::Error),
}

/// What is wrong with the files that decide about images, as the daemon with this configuration would
/// read them, each in one line. Blocks.
pub fn check_image_files(loaded: &Loaded) -> Vec<String> {
    settings::image_files(loaded).check()
}

/// Whether the node's kernel has SELinux on.
pub fn has_selinux() -> bool {
    selinux::is_on(Path::new(selinux::KERNEL), Path::new(selinux::OWN_LABEL))
}

/// What cannot be used of the configured handlers, and was left out or replaced. Blocks.
///
/// # Errors
/// When the default handler cannot be used.
pub fn check_handlers(loaded: &Loaded) -> Result<Vec<config::Problem>, DaemonError> {
    let (found, _) = security::handlers(loaded, &host::Kernel::facts())?;
    Ok(found.warnings)
}

/// What is wrong with the seccomp and AppArmor profiles, the time zone and the default mounts that the
/// configuration gives to containers, each in one line. Blocks.
pub fn check_profiles_and_files(loaded: &Loaded) -> Vec<String> {
    security::check(loaded)
}

/// What the configuration allows pods to ask for in vain, each in one line.
pub fn check_annotations(loaded: &Loaded) -> Vec<String> {
    settings::vain_annotations(&loaded.config)
}

/// What is wrong with the node's hook files, each in one line. Blocks.
pub fn check_hook_files(loaded: &Loaded) -> Vec<String> {
    hooks::Directories::new(loaded.config.runtime.hooks_dir.clone()).problems()
}

/// Runs the daemon with this configuration until SIGTERM or SIGINT.
///
/// # Errors
/// When it cannot start, naming what has to be mended.
pub fn run(loaded: Loaded) -> Result<(), DaemonError> {
    let level = telemetry::start(
        telemetry::level(loaded.config.runtime.log_level.as_str()),
        match loaded.options.log_format {
            config::LogFormat::Text => telemetry::Format::Text,
            config::LogFormat::Json => telemetry::Format::Json,
        },
        loaded.options.log.as_deref(),
    )?;
    // Files for containers must not depend on who starts the daemon.
    umask(Mode::from_bits_truncate(0o022));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(MAX_BLOCKING)
        .thread_keep_alive(BLOCKING_KEEP)
        .enable_all()
        .build()
        .map_err(DaemonError::Async)?;
    let served = runtime.block_on(serve(loaded, level));
    // An archive that is being loaded takes as long as it is large; what it leaves half done the next
    // start sweeps, as after a crash.
    runtime.shutdown_background();
    served
}

/// The rooms that the services need.
#[derive(Debug, Clone)]
struct House {
    images: Arc<Images>,
    store: Store,
    networks: Arc<Networks>,
    handlers: Arc<Handlers>,
    containers: Arc<Containers>,
    sandboxes: Arc<Sandboxes>,
    manager: Manager,
    cgroups: Arc<Cgroups>,
    leaks: Leaks,
}

async fn serve(loaded: Loaded, level: telemetry::Level) -> Result<(), DaemonError> {
    notify::open().map_err(DaemonError::Notify)?;
    let hangups = signal(SignalKind::hangup()).map_err(DaemonError::Signals)?;
    let told_to_stop = stop_signal().map_err(DaemonError::Signals)?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let mut told_to_stop = Box::pin(told_to_stop);
    calls::mark_for(&loaded.config.runroot);
    let house = build(&loaded).await?;
    let _ours = take_over(&loaded).await?;
    tokio::select! {
        restored = restore(&house) => restored?,
        // Nothing is served yet, and what is restored is on disk as it was.
        () = &mut told_to_stop => return Ok(()),
    }
    let streaming = Server::bind(settings::streaming(&loaded.config)).await?;
    let urls = streaming.urls();
    let listener = cri::bind(&loaded.config.api.listen)?;
    // Not in the way of the first call.
    let leaks = house.leaks.clone();
    tokio::spawn(async move { leaks.fix_until_done().await });
    if let Some(directory) = loaded.config.image.image_archives_dir.clone() {
        let images = Arc::clone(&house.images);
        tokio::spawn(async move { images.load_directory(directory).await });
    }
    let socket = loaded.config.api.listen.clone();
    let stopping = CancellationToken::new();
    let sessions = tokio::spawn(streaming.serve(
        streaming::Rooms {
            containers: Arc::clone(&house.containers),
            sandboxes: Arc::clone(&house.sandboxes),
        },
        stopping.clone().cancelled_owned(),
        SHUTDOWN,
    ));
    let followed = Arc::clone(&house.sandboxes);
    let stop = async move {
        told_to_stop.await;
        stopping.cancel();
        service::stopping();
        // So that nobody connects to a daemon that is about to go.
        if let Err(error) = std::fs::remove_file(&socket) {
            tracing::warn!(%error, socket = %socket.display(), "socket not removed");
        }
        followed.end_events();
    };
    let shown = Arc::new(cri::Shown::new(reload::texts(&loaded)));
    let serving = answer(
        listener,
        &loaded,
        &house,
        (Arc::clone(&urls), Arc::clone(&shown)),
        stop,
    );
    let images = Arc::clone(&house.images);
    tokio::spawn(async move { images.watch_registries().await });
    let reloader = reload::Reloader {
        loaded: loaded.clone(),
        house: house.clone(),
        level,
        shown,
    };
    tokio::spawn(reloader.run(hangups));
    service::ready(&loaded.config.api.listen);
    tokio::spawn(service::feed_watchdog(loaded.config.api.listen.clone()));
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        socket = %loaded.config.api.listen.display(),
        streaming = urls.base(),
        "serving"
    );
    serving.await?;
    // It has the same time as the socket's connections, from the same moment on.
    let _sessions_ended = sessions.await;
    let store = house.store.clone();
    let settled = tokio::task::spawn_blocking(move || store.settle(SHUTDOWN)).await;
    tracing::info!(
        store_settled = settled.unwrap_or(false),
        "stopped; containers go on"
    );
    Ok(())
}

/// Takes the run root over from an earlier daemon. It is ours as long as what is returned is kept.
async fn take_over(loaded: &Loaded) -> Result<File, DaemonError> {
    let run_dir = RunDir::new(&loaded.config.runroot);
    let ours = run_dir.lock()?;
    // From here on its plugins would run beside ours.
    if let Err(error) = calls::end_those_of_earlier(GONE).await {
        tracing::warn!(%error, "programs that the dead daemon has called are not ended");
    }
    run_dir.forget_earlier_boots(&boot::id().map_err(DaemonError::Boot)?)?;
    Ok(ours)
}

async fn restore(house: &House) -> Result<(), DaemonError> {
    house.containers.restore().await?;
    house.sandboxes.restore().await?;
    house.networks.collect_garbage();
    Ok(())
}

async fn build(loaded: &Loaded) -> Result<House, DaemonError> {
    let config = &loaded.config;
    let manager = settings::cgroup_manager(config);
    let cgroups = Arc::new(Cgroups::detect(manager)?.marked(&config.runroot));
    if let Some(missing) = cgroups.no_memory() {
        tracing::error!("{missing}");
    }
    let kernel = host::Kernel::facts();
    let host = host::facts(&cgroups, &kernel)?;
    let (found, handler_seccomp) = security::handlers(loaded, &kernel)?;
    for warning in &found.warnings {
        tracing::warn!("{warning}");
    }
    for vain in settings::vain_annotations(config) {
        tracing::warn!("{vain}");
    }
    let runtimes = doctor::programs(&found.ready, config, manager);
    let handlers = found
        .ready
        .into_iter()
        .map(|ready| settings::handler(ready, config, manager));
    let run_dir = RunDir::new(&config.runroot);
    let kept = run_dir.features();
    let handlers = Handlers::new(found.default, handlers.collect(), host.kernel, kept).await?;
    let handlers = Arc::new(handlers);
    let store = Store::open(settings::storage(config))?;
    let images = Images::open(settings::images(loaded, store.clone()));
    let (room, registries) = (Arc::clone(&images), settings::registries(loaded));
    // It is told in the log, and pods that run do not need it.
    let _told = blocking(move || room.reload_registries(registries)).await;
    let networks = Networks::open(settings::network(config));
    let selinux = security::selinux(loaded)?;
    let (apparmor, apparmor_default) = security::apparmor(config, &kernel)?;
    let profiles = security::profiles(config, &kernel, handler_seccomp, apparmor_default)?;
    let containers = Containers::open(
        settings::container(loaded, host.clone(), profiles, apparmor, selinux.clone())?,
        container::Rooms {
            run_dir: run_dir.clone(),
            cgroups: Arc::clone(&cgroups),
            store: store.clone(),
            images: Arc::clone(&images),
        },
    )?;
    let sandboxes = Sandboxes::open(
        settings::sandbox(config, &config::pause_binary(loaded)?, host, selinux),
        sandbox::Rooms {
            run_dir: run_dir.clone(),
            handlers: Arc::clone(&handlers),
            cgroups: Arc::clone(&cgroups),
            networks: Arc::clone(&networks),
            containers: Arc::clone(&containers),
        },
    )?;
    let leaks = Leaks::new(
        settings::leaks(config, runtimes),
        leaks::Rooms {
            run_dir,
            cgroups: Arc::clone(&cgroups),
            networks: Arc::clone(&networks),
            store: Some(store.clone()),
        },
    );
    Ok(House {
        images,
        store,
        networks,
        handlers,
        containers,
        sandboxes,
        manager,
        cgroups,
        leaks,
    })
}

/// Answers on the socket until `stop`, and then for as long as open calls take, within bounds.
async fn answer(
    listener: UnixListener,
    loaded: &Loaded,
    house: &House,
    (streaming, shown): (Arc<Urls>, Arc<cri::Shown>),
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), DaemonError> {
    let api = &loaded.config.api;
    let (receive, send) = (
        bound(api.grpc_max_recv_msg_size),
        bound(api.grpc_max_send_msg_size),
    );
    let identity = Identity {
        version: env!("CARGO_PKG_VERSION"),
        systemd_cgroup: house.manager == Manager::Systemd,
        no_memory: house.cgroups.no_memory(),
        shown: Arc::clone(&shown),
    };
    let runtime = RuntimeApi {
        images: Arc::clone(&house.images),
        sandboxes: Arc::clone(&house.sandboxes),
        networks: Arc::clone(&house.networks),
        handlers: Arc::clone(&house.handlers),
        streaming,
        identity,
        metrics: cri::MetricGroups::new(&loaded.config.stats.included_pod_metrics),
    };
    let image = ImageApi {
        images: Arc::clone(&house.images),
        store: house.store.clone(),
        sandboxes: Arc::clone(&house.sandboxes),
    };
    let admin = AdminApi {
        images: Arc::clone(&house.images),
        containers: Arc::clone(house.sandboxes.containers()),
        leaks: house.leaks.clone(),
        checkup: doctor::checkup(loaded, house),
        sandboxes: Arc::clone(&house.sandboxes),
    };
    let (grpc, plain) = cri::sort(listener, settings::http(loaded, house, shown));
    let stop_plain = plain.stop();
    let (stopping, stopped) = tokio::sync::oneshot::channel();
    let server = tonic::transport::Server::builder()
        .add_service(
            RuntimeServiceServer::new(runtime)
                .max_decoding_message_size(receive)
                .max_encoding_message_size(send),
        )
        .add_service(
            ImageServiceServer::new(image)
                .max_decoding_message_size(receive)
                .max_encoding_message_size(send),
        )
        .add_service(AdminServiceServer::new(admin))
        .serve_with_incoming_shutdown(grpc, async move {
            stop.await;
            stop_plain.cancel();
            // Nobody waits any more only when the server has ended by itself.
            let _ended = stopping.send(());
        });
    let too_long = async move {
        match stopped.await {
            Ok(()) => tokio::time::sleep(SHUTDOWN).await,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        served = async { (server.await, plain.ended().await).0 } => Ok(served?),
        // An idle client can keep a connection open for ever.
        () = too_long => Ok(()),
    }
}

/// A message bound of the configuration, in bytes; 0 and below mean the default.
fn bound(bytes: i64) -> usize {
    usize::try_from(bytes)
        .ok()
        .filter(|bytes| *bytes > 0)
        .unwrap_or(MAX_MESSAGE_BYTES)
}

/// The next SIGTERM or SIGINT. From this call on, not from its first poll, neither ends the process
/// by itself.
fn stop_signal() -> io::Result<impl Future<Output = ()> + Send> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // CRI-O writes stacks by the first and collects garbage by the second: whoever sends them to the
    // daemon does not want it to end.
    let mut others = [SignalKind::user_defined1(), SignalKind::user_defined2()]
        .map(signal)
        .into_iter()
        .collect::<io::Result<Vec<_>>>()?;
    tokio::spawn(async move {
        loop {
            let any = others.iter_mut().map(|signal| Box::pin(signal.recv()));
            futures_util::future::select_all(any).await;
            tracing::warn!("SIGUSR1 and SIGUSR2 do nothing in this version");
        }
    });
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
