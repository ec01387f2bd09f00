//! Further processes in the container.

use core::fmt::Write;

use conmon::{MAX_EXECS, Reply, Step};
use nostd_sys::{Fd, Pid, Signal, Stdio, WaitStatus, kill};

use super::client::PassedFds;
use super::clients::{Place, Role};
use super::console::Console;
use super::failure::Failure;
use super::scratch::{Directory, Scratch};
use super::text::Text;
use super::{Monitor, runtime, tree};

/// One exec'd process, from the runtime's start to its end.
struct Exec {
    /// The client that waits for it; none when it has hung up.
    client: Option<Place>,
    kill_on_hangup: bool,
    is_terminal: bool,
    /// Whether its files are in the scratch directory.
    in_scratch: bool,
    console: Console,
    stage: Stage,
}

enum Stage {
    /// The runtime is at it. The process may have ended before the runtime tells who it is.
    Starting {
        runtime: Pid,
        early_end: Option<(Pid, WaitStatus)>,
    },
    Running {
        pid: Pid,
    },
}

pub(super) struct Execs([Option<Exec>; MAX_EXECS]);

impl Execs {
    pub(super) fn new() -> Self {
        Self([const { None }; MAX_EXECS])
    }

    /// The consoles that the runtime is to use yet.
    pub(super) fn consoles(&self) -> impl Iterator<Item = (Place, &Fd)> {
        self.0.iter().zip(0..).filter_map(|(exec, index)| {
            exec.as_ref()?
                .console
                .awaited()
                .map(|console| (index, console))
        })
    }

    pub(super) fn advance_console(&mut self, index: Place) {
        if let Some(Some(exec)) = self.0.get_mut(usize::from(index)) {
            exec.console.advance();
        }
    }

    /// The runtimes that are starting a process.
    pub(super) fn runtimes(&self) -> impl Iterator<Item = Pid> {
        self.0.iter().filter_map(|exec| match exec.as_ref()?.stage {
            Stage::Starting { runtime, .. } => Some(runtime),
            Stage::Running { .. } => None,
        })
    }

    fn position(&self, wanted: impl Fn(&Stage) -> bool) -> Option<Place> {
        let mut places = self.0.iter().zip(0..);
        places.find_map(|(exec, index)| wanted(&exec.as_ref()?.stage).then_some(index))
    }

    pub(super) fn by_runtime(&self, pid: Pid) -> Option<Place> {
        self.position(|stage| matches!(stage, Stage::Starting { runtime, .. } if *runtime == pid))
    }

    pub(super) fn by_pid(&self, wanted: Pid) -> Option<Place> {
        self.position(|stage| matches!(stage, Stage::Running { pid } if *pid == wanted))
    }

    /// Remembers the end of a process that a runtime which is still at it has started.
    pub(super) fn note_early_end(&mut self, pid: Pid, status: WaitStatus, scratch: &Scratch) {
        for (exec, index) in self.0.iter_mut().zip(0..) {
            if let Some(Exec {
                stage: Stage::Starting { early_end, .. },
                in_scratch,
                ..
            }) = exec
                && let names = Names::of(index, &scratch.directory(*in_scratch))
                && runtime::read_pid(names.pid_file.as_path()) == Ok(pid)
            {
                *early_end = Some((pid, status));
                return;
            }
        }
    }

    fn free_place(&self) -> Option<Place> {
        let mut places = self.0.iter().zip(0..);
        places.find_map(|(exec, index)| exec.is_none().then_some(index))
    }

    fn take(&mut self, index: Place) -> Option<Exec> {
        self.0.get_mut(usize::from(index))?.take()
    }
}

/// The files of the exec in one place, in the bundle directory or the scratch one.
struct Names {
    pid_file: Text<64>,
    /// What runc calls the pid file until it is written (`createPidFile`), and refuses to begin
    /// when it is there: a runtime that is killed in that moment leaves it.
    unfinished_pid_file: Text<64>,
    log: Text<64>,
    console: Text<64>,
}

impl Names {
    fn of(index: Place, directory: &Directory) -> Self {
        let name = |prefix: &str, ending: &str| {
            let mut path = Text::new();
            path.push(directory.bytes());
            // It fails only where there is no more room, and there is.
            let _ = write!(path, "{prefix}exec-{index}.{ending}");
            path
        };
        Self {
            pid_file: name("", "pid"),
            unfinished_pid_file: name(".", "pid"),
            log: name("", "log"),
            console: name("", "sock"),
        }
    }

    fn remove(&self) {
        runtime::remove([
            self.pid_file.as_path(),
            self.unfinished_pid_file.as_path(),
            self.log.as_path(),
        ]);
    }
}

impl Monitor {
    /// Begins to run a process; the end of the runtime goes on with it.
    pub(super) fn exec(
        &mut self,
        client: Place,
        request: &conmon::Exec<'_>,
        fds: PassedFds,
    ) -> Result<(), Failure> {
        if self.ending.is_some() {
            return Err(Failure::refused(Step::Phase, "the container has ended"));
        }
        let Some(index) = self.execs.free_place() else {
            self.finish_client(client, &Reply::Busy);
            return Ok(());
        };
        let in_scratch = self.scratch.is_needed();
        let names = Names::of(index, &self.scratch.directory(in_scratch));
        let started = self.start_exec(request, &names, fds);
        let (runtime, console) = started.inspect_err(|_| {
            names.remove();
            runtime::remove([names.console.as_path()]);
        })?;
        self.execs.0[usize::from(index)] = Some(Exec {
            client: Some(client),
            kill_on_hangup: request.kill_on_hangup,
            is_terminal: request.terminal,
            in_scratch,
            console,
            stage: Stage::Starting {
                runtime,
                early_end: None,
            },
        });
        self.clients.set_role(client, Role::Exec(index));
        Ok(())
    }

    fn start_exec(
        &mut self,
        request: &conmon::Exec<'_>,
        names: &Names,
        fds: PassedFds,
    ) -> Result<(Pid, Console), Failure> {
        names.remove();
        match (request.terminal, &fds) {
            (true, [None, None, None]) => {
                let path = names.console.as_path();
                runtime::remove([path]);
                let console = Console::listen(path)
                    .map_err(|errno| Failure::file(Step::Stdio, path, errno))?;
                let log = runtime::open_log(names.log.as_path())?;
                self.exec_command_line(request, names);
                let (stdin, stdout) = (&self.null, &self.null);
                let pid = self.runtime.spawn(Stdio {
                    stdin,
                    stdout,
                    stderr: &log,
                })?;
                Ok((pid, console))
            }
            (false, [Some(stdin), Some(stdout), Some(stderr)]) => {
                self.exec_command_line(request, names);
                let pid = self.runtime.spawn(Stdio {
                    stdin,
                    stdout,
                    stderr,
                })?;
                // The descriptors are closed here, so that their other ends see the process's end.
                Ok((pid, Console::None))
            }
            _ => {
                let why = "an exec comes with three descriptors, or with none and a terminal";
                Err(Failure::refused(Step::Request, why))
            }
        }
    }

    fn exec_command_line(&mut self, request: &conmon::Exec<'_>, names: &Names) {
        let command = self.runtime.begin(names.log.as_path(), "exec");
        command
            .arg("--detach")
            .arg("--pid-file")
            .path(names.pid_file.as_path());
        if request.terminal {
            command
                .arg("--tty")
                .arg("--console-socket")
                .path(names.console.as_path());
        }
        command
            .args(&request.exec_args)
            .container()
            .args(&request.argv);
    }

    /// The runtime that was to start the process has ended.
    pub(super) fn exec_runtime_ended(&mut self, index: Place, status: WaitStatus) {
        let Some(mut exec) = self.execs.take(index) else {
            return;
        };
        let Stage::Starting { early_end, .. } = exec.stage else {
            return;
        };
        let names = Names::of(index, &self.scratch.directory(exec.in_scratch));
        exec.console.advance();
        let result = if status.is_success() {
            self.exec_started(&mut exec, &names)
        } else {
            Err(runtime::failure(
                Step::Exec,
                status,
                names.log.as_path(),
                0,
                &mut self.buffers,
            ))
        };
        names.remove();
        if exec.is_terminal {
            runtime::remove([names.console.as_path()]);
        }
        match result {
            Ok(pid) => {
                if exec.client.is_none() {
                    if exec.kill_on_hangup && early_end.is_none() {
                        // It is a child of this process and not waited for: the pid is its.
                        tree::kill(pid, &mut self.buffers);
                    }
                    return;
                }
                exec.stage = Stage::Running { pid };
                self.execs.0[usize::from(index)] = Some(exec);
                if let Some((_, status)) = early_end.filter(|(ended, _)| *ended == pid) {
                    self.exec_ended(index, status);
                }
            }
            Err(failure) => {
                if let Some(client) = exec.client {
                    // The place is free already: the client's end is no hang-up of this exec.
                    self.clients.set_role(client, Role::Fresh);
                    self.fail(client, &failure);
                }
            }
        }
    }

    /// Tells the client that its process runs. The place is empty meanwhile, so that a client that
    /// does not take the answer is noticed here.
    fn exec_started(&mut self, exec: &mut Exec, names: &Names) -> Result<Pid, Failure> {
        let pid_file = names.pid_file.as_path();
        let pid = runtime::read_pid(pid_file)
            .map_err(|errno| Failure::file(Step::Exec, pid_file, errno))?;
        let console = core::mem::replace(&mut exec.console, Console::None);
        let master = console.into_master();
        if exec.is_terminal && master.is_none() {
            // It may have ended by itself.
            let _ = kill(pid, Signal::Kill);
            let why = "the runtime did not hand over the terminal";
            return Err(Failure::refused(Step::Stdio, why));
        }
        if let Some(client) = exec.client {
            let reply = Reply::ExecStarted { pid: pid.number() };
            self.reply_with(client, &reply, master.as_ref());
            if self.clients.role(client).is_none() {
                exec.client = None;
            }
        }
        Ok(pid)
    }

    /// The process has ended.
    pub(super) fn exec_ended(&mut self, index: Place, status: WaitStatus) {
        let Some(exec) = self.execs.take(index) else {
            return;
        };
        if let Some(client) = exec.client {
            let (exit_code, signal) = (status.exit_code(), status.signal());
            self.clients.set_role(client, Role::Fresh);
            self.finish_client(client, &Reply::ExecExited { exit_code, signal });
        }
    }

    /// The client has gone while its process is there, or is about to be. Nobody asks for a process
    /// that runs any more: its place is free. A runtime that is still at it may hang, and is killed:
    /// who has gone was never told that the process runs.
    pub(super) fn exec_hung_up(&mut self, index: Place) {
        let Some(Some(exec)) = self.execs.0.get_mut(usize::from(index)) else {
            return;
        };
        exec.client = None;
        // Each is a child of this process and not waited for: the pid is its.
        match exec.stage {
            Stage::Starting { runtime, .. } => tree::kill(runtime, &mut self.buffers),
            Stage::Running { pid } => {
                let kills = exec.kill_on_hangup;
                self.execs.take(index);
                if kills {
                    tree::kill(pid, &mut self.buffers);
                }
            }
        }
    }
}
