//! The daemon's end of conmon: starting one, and asking one that may be older than the daemon.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use conmon::{
    Create, EXIT_RECORD, ExitRecord, List, MAX_EXIT_RECORD, Phase, Reply, Request, Status,
};
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use super::connection::{Answer, Connection};
use super::{Handler, Program, RuntimeError};
use crate::cgroup::Cgroups;
use crate::sys::process_tree::{self, kill_all_in, kill_tree};
use crate::sys::{blocking, fault, pidfd};

/// How long a monitor may take to answer what it answers from memory. One that is stopped or stuck
/// must not hold up the daemon.
pub(super) const ANSWER: Duration = Duration::from_secs(5);

/// What the monitor of a new container is told.
#[derive(Debug, Clone, Copy)]
pub struct NewContainer<'a> {
    /// The container, as the runtime is to know it.
    pub id: &'a str,
    /// The bundle directory, with config.json in it.
    pub bundle: &'a Path,
    /// The cgroup of its pod, as the kubelet gives it.
    pub cgroup_parent: &'a str,
    /// Absolute path of the log in CRI format; empty: output is discarded.
    pub log_path: &'a str,
    /// Whether the container has a terminal.
    pub terminal: bool,
    /// Whether its standard input stays open for attach.
    pub stdin: bool,
    /// Whether the first attach that ends closes it.
    pub stdin_once: bool,
    /// Ends the creation when it is cancelled.
    pub cancelled: &'a CancellationToken,
}

/// The monitor of one container, addressed by the container's bundle directory.
#[derive(Debug, Clone)]
pub struct Monitor {
    bundle: PathBuf,
}

/// The status of a container as its monitor tells it, now and at each change.
#[derive(Debug)]
pub struct Watch {
    connection: Connection,
}

impl Monitor {
    /// The monitor of the container with this bundle.
    pub fn of(bundle: PathBuf) -> Self {
        Self { bundle }
    }

    /// Starts a monitor that creates the container by the handler's runtime, and returns the
    /// container's init and a watch on its status. The monitor is moved into a cgroup of its own
    /// before it does anything.
    ///
    /// # Errors
    /// When the monitor or the runtime cannot be run, or the runtime refuses or does not end in
    /// time; the monitor has then ended, or been ended.
    pub async fn create(
        handler: &Arc<Handler>,
        cgroups: &Arc<Cgroups>,
        new: NewContainer<'_>,
    ) -> Result<(i32, Watch), RuntimeError> {
        let spawn = |source| RuntimeError::Spawn {
            step: format!("monitor {}", handler.monitor.display()),
            source,
        };
        let (connection, monitors_end) = Connection::pair().map_err(spawn)?;
        let mut child = Command::new(&handler.monitor)
            .arg(new.id)
            .current_dir(new.bundle)
            // Nothing of the daemon's own: a `NOTIFY_SOCKET` would make runc speak for it.
            .env_clear()
            .envs(
                handler
                    .environment
                    .iter()
                    .map(|(name, value)| (name, value)),
            )
            .stdin(Stdio::from(monitors_end))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(spawn)?;
        fault::point("monitor.spawned");
        let placing = place(child.id(), handler, cgroups, new);
        let creating = async {
            let asked = ask_to_create(&connection, handler, new);
            let in_time = tokio::time::timeout(handler.create_timeout, asked);
            tokio::select! {
                biased;
                () = new.cancelled.cancelled() => Err(RuntimeError::Cancelled),
                created = in_time => created.unwrap_or_else(|_| Err(RuntimeError::TimedOut {
                    step: format!("{} create {}", handler.program.path.display(), new.id),
                    deadline: handler.create_timeout,
                })),
            }
        };
        let created = if cgroups.uses_scopes(new.cgroup_parent) {
            // systemd works beside the runtime, which only borrows the daemon's cgroup: it puts the
            // container into a scope by itself. The child is not reaped before both have ended, or
            // the creation has failed: then an order that systemd has not got yet is not sent.
            tokio::try_join!(placing, creating).map(|((), pid)| pid)
        } else {
            placing.await?;
            creating.await
        };
        match created {
            // Dropped, the child is reaped by tokio when it ends; it is not killed.
            Ok(pid) => {
                fault::point("monitor.created");
                Ok((pid, Watch { connection }))
            }
            Err(error) => {
                // A hanging runtime keeps its monitor, and would go on without it; after any other
                // error both have ended.
                if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
                    kill_tree(pid);
                }
                if let Err(error) = child.wait().await {
                    tracing::warn!(%error, id = new.id, "monitor not waited for");
                }
                Err(error)
            }
        }
    }

    /// Asks for the container's status, now and at each change.
    ///
    /// # Errors
    /// When the monitor does not answer; [`exit_record`](Self::exit_record) tells then whether the
    /// container has ended.
    pub async fn watch(&self) -> Result<Watch, RuntimeError> {
        let connection = self.ask(&Request::Watch).await?;
        Ok(Watch { connection })
    }

    /// Starts the created container by the runtime that has created it, and returns when that was,
    /// in nanoseconds since 1970.
    ///
    /// # Errors
    /// When the runtime refuses: its message says why, a missing command for example. When it does
    /// not end in time it goes on until the container is killed.
    pub async fn start(&self, runtime: &Program) -> Result<u64, RuntimeError> {
        let connection = self.ask(&Request::Start).await?;
        fault::point("start.asked");
        match within_call(runtime, "start", next(&connection))
            .await?
            .reply()?
        {
            Reply::Started { started_at_ns } => Ok(started_at_ns),
            other => Err(unexpected("start the container", other)),
        }
    }

    /// Makes the monitor open its log anew after a rotation. When this returns, the new file is
    /// there and gets all further output.
    ///
    /// # Errors
    /// When the log cannot be opened: nothing has changed then.
    pub async fn reopen_log(&self) -> Result<(), RuntimeError> {
        let connection = self.ask(&Request::ReopenLog { path: b"" }).await?;
        fault::point("log.reopen-asked");
        match within(ANSWER, "reopen the log", next(&connection))
            .await?
            .reply()?
        {
            Reply::Done => Ok(()),
            other => Err(unexpected("reopen the log", other)),
        }
    }

    /// Waits until the monitor of what has ended has gone, and so writes nothing into the bundle any
    /// more; not for ever, because one that is stuck must not hold up a removal: it is killed.
    pub async fn gone(&self) {
        let gone = async {
            if let Ok(mut watch) = self.watch().await {
                while let Ok(Some(_)) = watch.next().await {}
            }
        };
        if tokio::time::timeout(ANSWER, gone).await.is_err() {
            tracing::warn!(bundle = %self.bundle.display(), "the container's monitor does not end, killed");
            self.end().await;
        }
    }

    /// Ends the monitor and what it runs of the OCI runtime, which work in the bundle. For what is
    /// half made: a daemon that died has left a monitor that goes on creating, and of which no
    /// runtime knows yet.
    pub async fn end(&self) {
        let bundle = self.bundle.clone();
        if let Err(error) = process_tree::end(move || kill_all_in(&bundle), ANSWER).await {
            tracing::warn!(bundle = %self.bundle.display(), %error, "the container's monitor is not ended");
        }
    }

    /// How the container ended, when its monitor has recorded that.
    ///
    /// # Errors
    /// When there is a record that cannot be read or understood.
    pub fn exit_record(&self) -> Result<Option<ExitRecord>, RuntimeError> {
        let path = self.bundle.join(EXIT_RECORD);
        let file = match std::fs::File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file,
        };
        let mut text = Vec::new();
        let limit = MAX_EXIT_RECORD as u64 + 1;
        file.and_then(|file| file.take(limit).read_to_end(&mut text))
            .map_err(|source| RuntimeError::Monitor {
                step: "read its exit record",
                source,
            })?;
        ExitRecord::parse(&text)
            .map(Some)
            .map_err(|source| RuntimeError::ExitRecord { path, source })
    }

    pub(super) fn connect(&self) -> Result<Connection, RuntimeError> {
        Connection::connect(&self.bundle).map_err(|source| RuntimeError::Monitor {
            step: "connect to it",
            source,
        })
    }

    async fn ask(&self, request: &Request<'_>) -> Result<Connection, RuntimeError> {
        let connection = self.connect()?;
        connection.send(request, &[]).await?;
        Ok(connection)
    }
}

impl Watch {
    /// The status now, which the monitor tells at once; `None` when it has gone.
    ///
    /// # Errors
    /// As [`next`](Self::next), and when the monitor does not answer in time.
    pub async fn first(&mut self) -> Result<Option<Status>, RuntimeError> {
        within(ANSWER, "tell the container's status", self.next()).await
    }

    /// Moves the monitor into its scope when it missed that: systemd was slow, or the daemon that
    /// started it ended before. In a task, which ends with the monitor or by systemd's deadline.
    /// `setting` is `monitor_cgroup`. Without scopes there is nothing to do.
    pub fn place_late(&self, cgroups: &Arc<Cgroups>, id: &str, parent: &str, setting: &str) {
        if !cgroups.uses_scopes(parent) {
            return;
        }
        let peer = self.connection.peer();
        let process = peer.and_then(|pid| Ok((pid, pidfd::Process::open(pid, None)?)));
        let (pid, process) = match process {
            Ok((pid, Some(process))) => (pid.cast_unsigned(), process),
            Ok((_, None)) => return,
            Err(error) => {
                tracing::warn!(id, %error, "not known whether the monitor is in its scope");
                return;
            }
        };
        if !cgroups.misses_scope(pid, id) {
            return;
        }
        let (cgroups, id) = (Arc::clone(cgroups), id.to_owned());
        let (parent, setting) = (parent.to_owned(), setting.to_owned());
        tokio::spawn(async move {
            // When it has ended its pid may be another's.
            tokio::select! {
                placed = cgroups.scope_monitor(pid, &id, &parent, &setting) => match placed {
                    Ok(()) => tracing::info!(%id, "monitor moved into its scope, late"),
                    Err(error) => tracing::warn!(%id, %error, "monitor stays outside its scope"),
                },
                _ = process.ended() => {}
            }
        });
    }

    /// Waits for the next status; `None` when the monitor has gone.
    ///
    /// # Errors
    /// When the connection breaks or the answer is no status.
    pub async fn next(&mut self) -> Result<Option<Status>, RuntimeError> {
        let Some(answer) = self.connection.receive().await? else {
            return Ok(None);
        };
        match answer.reply()? {
            Reply::Status(status) => Ok(Some(status)),
            other => Err(unexpected("watch the container", other)),
        }
    }

    /// Waits for the container's end, and hands over what is told before it; `None` when the monitor
    /// goes without telling one.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub async fn exited(
        mut self,
        mut before: impl FnMut(&Status),
    ) -> Result<Option<Status>, RuntimeError> {
        while let Some(status) = self.next().await? {
            if status.phase == Phase::Exited {
                return Ok(Some(status));
            }
            before(&status);
        }
        Ok(None)
    }
}

/// Moves a monitor out of the daemon's cgroup, so that it outlives the daemon's unit. Where that
/// does not work it stays and does its work all the same.
async fn place(
    monitor: Option<u32>,
    handler: &Arc<Handler>,
    cgroups: &Arc<Cgroups>,
    new: NewContainer<'_>,
) -> Result<(), RuntimeError> {
    let Some(monitor) = monitor else {
        return Ok(());
    };
    let placed = if cgroups.uses_scopes(new.cgroup_parent) {
        let (id, parent) = (new.id, new.cgroup_parent);
        Box::pin(cgroups.scope_monitor(monitor, id, parent, &handler.monitor_cgroup)).await
    } else {
        let (handler, cgroups) = (Arc::clone(handler), Arc::clone(cgroups));
        let (id, parent) = (new.id.to_owned(), new.cgroup_parent.to_owned());
        // The kernel may take some milliseconds for it, which would keep others from being answered.
        blocking(move || {
            let setting = &handler.monitor_cgroup;
            Ok::<_, RuntimeError>(cgroups.place_monitor(monitor, &id, &parent, setting))
        })
        .await?
    };
    if let Err(error) = placed {
        tracing::warn!(id = new.id, %error, "monitor stays in the daemon's cgroup");
    }
    fault::point("monitor.placed");
    Ok(())
}

async fn ask_to_create(
    connection: &Connection,
    handler: &Handler,
    new: NewContainer<'_>,
) -> Result<i32, RuntimeError> {
    use std::os::unix::ffi::OsStrExt;
    let arguments = handler.program.global_arguments();
    let arguments: Vec<&[u8]> = arguments.iter().map(String::as_bytes).collect();
    let create_args: &[&[u8]] = if handler.no_pivot {
        &[b"--no-pivot"]
    } else {
        &[]
    };
    let request = Request::Create(Create {
        runtime: handler.program.path.as_os_str().as_bytes(),
        global_args: List::new(&arguments),
        container_id: new.id.as_bytes(),
        create_args: List::new(create_args),
        log_path: new.log_path.as_bytes(),
        terminal: new.terminal,
        stdin: new.stdin,
        stdin_once: new.stdin_once,
    });
    connection.send(&request, &[]).await?;
    fault::point("monitor.asked-to-create");
    match next(connection).await?.reply()? {
        Reply::Created { pid } => Ok(pid),
        other => Err(unexpected("create the container", other)),
    }
}

/// Waits for an answer, but not for ever.
pub(super) async fn within<T>(
    deadline: Duration,
    step: &'static str,
    answer: impl Future<Output = Result<T, RuntimeError>>,
) -> Result<T, RuntimeError> {
    let late = RuntimeError::TimedOut {
        step: format!("the container's monitor: {step}"),
        deadline,
    };
    tokio::time::timeout(deadline, answer)
        .await
        .unwrap_or(Err(late))
}

/// Waits for the end of a call of the runtime that the monitor makes, but not for ever.
pub(super) async fn within_call<T>(
    runtime: &Program,
    call: &'static str,
    answer: impl Future<Output = Result<T, RuntimeError>>,
) -> Result<T, RuntimeError> {
    let deadline = runtime.start_timeout();
    tokio::time::timeout(deadline, answer)
        .await
        .unwrap_or_else(|_| {
            Err(RuntimeError::TimedOut {
                step: format!("{} {call}", runtime.path.display()),
                deadline,
            })
        })
}

pub(super) async fn next(connection: &Connection) -> Result<Answer, RuntimeError> {
    connection.receive().await?.ok_or(RuntimeError::MonitorGone)
}

pub(super) fn unexpected(step: &'static str, reply: Reply<'_>) -> RuntimeError {
    match reply {
        Reply::Failed {
            step: at,
            errno,
            runtime_exit_code,
            message,
        } => {
            let mut said = String::from_utf8_lossy(message).trim().to_owned();
            if errno != 0 {
                let cause = io::Error::from_raw_os_error(errno);
                said = if said.is_empty() {
                    cause.to_string()
                } else {
                    format!("{said}: {cause}")
                };
            }
            RuntimeError::Refused {
                step,
                at,
                runtime_exit_code,
                message: said,
            }
        }
        Reply::Busy => RuntimeError::Busy,
        _ => RuntimeError::Monitor {
            step,
            source: io::Error::new(io::ErrorKind::InvalidData, "an answer to another question"),
        },
    }
}
