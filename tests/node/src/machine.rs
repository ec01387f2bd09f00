//! QEMU: starting it, watching the guest's console, ending it kindly or as a power cut does.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::channel::Channel;
use crate::error::NodeError;
use crate::image::{Guest, Workshop};
use crate::wire::PORT;

/// A boot takes half a minute on an idle machine with two cores; beside other builds and machines it
/// has taken eight.
const BOOT: Duration = Duration::from_secs(900);
/// Units have 90 seconds to stop; then systemd kills them.
const SHUTDOWN: Duration = Duration::from_secs(240);
/// For a program that takes a moment; much more than one where other machines work beside it.
pub const SOON: Duration = Duration::from_secs(300);
/// How many lines of the console an error shows.
const TAIL: usize = 40;
/// What the kernel says when it will not go on or cannot be believed any more.
const FATAL: [&str; 4] = [
    "Kernel panic - not syncing",
    "BUG: unable to handle",
    "general protection fault",
    "You are in emergency mode",
];

/// A guest that has booted.
#[derive(Debug)]
pub struct Machine {
    qemu: Child,
    console: Arc<Console>,
    channel: Channel,
}

/// What the guest writes to its serial port.
#[derive(Debug, Default)]
pub struct Console(Mutex<Screen>);

#[derive(Debug, Default)]
struct Screen {
    tail: VecDeque<String>,
    fatal: Option<String>,
    ended: bool,
}

/// A disk beside the root's.
#[derive(Debug, Clone)]
pub struct Disk {
    /// `/dev/disk/by-id/virtio-NAME` inside.
    pub name: String,
    /// A raw file.
    pub file: PathBuf,
    /// Where each write and flush is noted; see [`crate::write_log`].
    pub log: Option<PathBuf>,
}

impl Machine {
    /// Boots the workshop's root disk and waits for the agent and for the end of the boot.
    pub fn boot(workshop: &Workshop, disks: &[Disk]) -> Result<Machine, NodeError> {
        let since = Instant::now();
        let socket = workshop.dir().join("agent.sock");
        // QEMU makes it anew; the one of the boot before would be a port to nowhere.
        drop(std::fs::remove_file(&socket));
        let mut command = command(workshop, disks, &socket);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut qemu = command.spawn().map_err(NodeError::io("start QEMU"))?;
        let console = Arc::new(Console::default());
        let log = workshop.dir().join("console.log");
        if let Some(stdout) = qemu.stdout.take() {
            console.watch(stdout, Some(&log));
        }
        if let Some(stderr) = qemu.stderr.take() {
            console.watch(stderr, None);
        }
        let channel = match Channel::open(&socket, &console, BOOT) {
            Ok(channel) => channel,
            Err(error) => {
                end(&mut qemu);
                return Err(error);
            }
        };
        let machine = Machine {
            qemu,
            console,
            channel,
        };
        let state = machine.booted()?;
        let seconds = since.elapsed().as_secs();
        eprintln!("node: booted in {seconds} s, systemd: {state}");
        Ok(machine)
    }

    /// Runs programs inside.
    pub fn inside(&self) -> &Channel {
        &self.channel
    }

    /// Cuts the power: what the guest has not handed to its disk is gone.
    pub fn cut(mut self) {
        end(&mut self.qemu);
    }

    /// Shuts the system down and waits until the machine is off.
    pub fn power_off(self) -> Result<(), NodeError> {
        self.leave("poweroff")
    }

    /// As `systemctl reboot`; QEMU ends there, and the next [`Machine::boot`] is the rest of it.
    pub fn reboot(self) -> Result<(), NodeError> {
        self.leave("reboot")
    }

    fn leave(mut self, verb: &str) -> Result<(), NodeError> {
        // The agent may be ended before it can say how this went.
        let started = self.channel.start(&["systemctl", verb])?;
        let since = Instant::now();
        loop {
            if let Ok(Some(status)) = self.qemu.try_wait() {
                drop(started);
                if status.success() && self.console.lock().fatal.is_none() {
                    return Ok(());
                }
                return Err(self.console.ended(verb));
            }
            let check = self.console.check_alive(verb, since, SHUTDOWN);
            if let Err(error) = check {
                drop(started);
                return Err(error);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Waits for the end of the boot; gives systemd's word for it.
    fn booted(&self) -> Result<String, NodeError> {
        let state = ["systemctl", "is-system-running", "--wait"];
        let output = self.channel.run(BOOT, &state)?;
        let state = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if state == "running" {
            return Ok(state);
        }
        let failed = failed_units(&self.channel)?;
        Ok(format!("{state}: {}", failed.join("; ")))
    }
}

/// The units that systemd calls failed at this moment.
pub fn failed_units(inside: &Channel) -> Result<Vec<String>, NodeError> {
    let failed = ["systemctl", "--failed", "--no-legend", "--plain"];
    let table = inside.good(SOON, &failed)?;
    Ok(first_words(&table))
}

/// The first column of a table: in systemctl's a unit's name.
fn first_words(table: &str) -> Vec<String> {
    let words = table.lines().filter_map(|line| line.split(' ').next());
    let words = words.filter(|word| !word.is_empty());
    words.map(str::to_owned).collect()
}

impl Drop for Machine {
    fn drop(&mut self) {
        end(&mut self.qemu);
    }
}

fn end(qemu: &mut Child) {
    // It may have ended by itself.
    drop(qemu.kill());
    drop(qemu.wait());
}

impl Console {
    /// The error to end a wait with, if there is one.
    pub fn check(&self, what: &str, since: Instant, limit: Duration) -> Result<(), NodeError> {
        if self.lock().ended {
            return Err(self.ended(what));
        }
        self.check_alive(what, since, limit)
    }

    fn check_alive(&self, what: &str, since: Instant, limit: Duration) -> Result<(), NodeError> {
        let screen = self.lock();
        let tail = screen.text();
        if let Some(line) = &screen.fatal {
            let line = line.clone();
            return Err(NodeError::Kernel { line, tail });
        }
        if since.elapsed() > limit {
            let what = what.to_owned();
            return Err(NodeError::Late { what, limit, tail });
        }
        Ok(())
    }

    /// The error of a machine that went away during `during`.
    pub fn ended(&self, during: &str) -> NodeError {
        let screen = self.lock();
        let tail = screen.text();
        match &screen.fatal {
            Some(line) => NodeError::Kernel {
                line: line.clone(),
                tail,
            },
            None => NodeError::Ended {
                during: during.to_owned(),
                tail,
            },
        }
    }

    /// Reads what the guest writes on a thread, and adds it to the file `log`.
    fn watch(self: &Arc<Console>, from: impl Read + Send + 'static, log: Option<&Path>) {
        let console = Arc::clone(self);
        let file = |path: &Path| {
            let mut options = std::fs::OpenOptions::new();
            options.create(true).append(true).open(path).ok()
        };
        let mut log = log.and_then(file);
        std::thread::spawn(move || {
            let mut from = BufReader::new(from);
            let mut line = Vec::new();
            // A line without an end must not take all memory.
            while matches!(
                from.by_ref().take(4096).read_until(b'\n', &mut line),
                Ok(1..)
            ) {
                if let Some(log) = &mut log {
                    // For a reader afterwards; a full disk shows elsewhere.
                    drop(log.write_all(&line));
                }
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                console.lock().add(text);
                line.clear();
            }
            console.lock().ended |= log.is_some();
        });
    }

    fn lock(&self) -> MutexGuard<'_, Screen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Screen {
    fn add(&mut self, line: String) {
        if self.fatal.is_none() && FATAL.iter().any(|fatal| line.contains(fatal)) {
            self.fatal = Some(line.clone());
        }
        if self.tail.len() == TAIL {
            self.tail.pop_front();
        }
        self.tail.push_back(line);
    }

    fn text(&self) -> String {
        Vec::from(self.tail.clone()).join("\n")
    }
}

fn command(workshop: &Workshop, disks: &[Disk], socket: &Path) -> Command {
    // QEMU ends with the thread that starts it, even when a test is killed.
    let mut command = Command::new("setpriv");
    command.arg("--pdeathsig=KILL").arg("--");
    let images = workshop.images();
    // A service's start may take longer than 90 s here, when other work goes on beside it.
    let mut words = "root=/dev/vda rw apparmor=1 security=apparmor systemd.show_status=1 \
                     systemd.default_timeout_start_sec=600"
        .to_owned();
    match images.guest() {
        Guest::Amd64 => {
            images.program(&mut command, "qemu-system-x86_64");
            for share in ["qemu", "seabios"] {
                command.arg("-L").arg(images.share(share));
            }
            command.args(["-machine", "q35", "-cpu", "max"]);
            // The kernel would take a timer tick that comes late for a broken IO-APIC.
            words += " console=ttyS0 no_timer_check";
        }
        Guest::Arm64 => {
            images.program(&mut command, "qemu-system-aarch64");
            // Signing pointers as the architecture has it takes half of the emulator's time.
            command.args(["-machine", "virt", "-cpu", "max,pauth-impdef=on"]);
            words += " console=ttyAMA0";
        }
    }
    command
        .args(["-accel", "tcg,thread=multi"])
        .args(["-smp", "2", "-m", "2048", "-display", "none", "-nodefaults"])
        .args(["-nic", "none", "-no-reboot", "-serial", "stdio"])
        .arg("-kernel")
        .arg(images.kernel())
        .arg("-initrd")
        .arg(images.initrd())
        .args(["-append", &words])
        .args(["-object", "rng-random,id=rng,filename=/dev/urandom"])
        .args(["-device", "virtio-rng-pci,rng=rng"])
        .args(["-device", "virtio-serial-pci"])
        .arg("-chardev")
        .arg(format!(
            "socket,id=agent,path={},server=on,wait=off",
            socket.display()
        ))
        .args([
            "-device",
            &format!("virtserialport,chardev=agent,name={PORT}"),
        ]);
    let root = format!(
        "driver=qcow2,node-name=root,file.driver=file,file.filename={}",
        workshop.root().display()
    );
    drive(&mut command, "root", &root);
    let payload = format!(
        "driver=raw,node-name=payload,read-only=on,file.driver=file,file.filename={}",
        workshop.payload().display()
    );
    drive(&mut command, "payload", &payload);
    for disk in disks {
        drive(&mut command, &disk.name, &node(disk));
    }
    command
}

/// Writes go to the host's page cache, as the guest's disk cache; flushes are passed on.
fn drive(command: &mut Command, name: &str, node: &str) {
    command.arg("-blockdev").arg(node);
    let device = format!("virtio-blk-pci,drive={name},serial={name},write-cache=on");
    command.arg("-device").arg(device);
}

fn node(disk: &Disk) -> String {
    let (name, file) = (&disk.name, disk.file.display());
    match &disk.log {
        None => format!("driver=raw,node-name={name},file.driver=file,file.filename={file}"),
        Some(log) => format!(
            "driver=blklogwrites,node-name={name},log-super-update-interval=1,\
             file.driver=file,file.filename={file},log.driver=file,log.filename={}",
            log.display()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_the_first_words_of_the_table() {
        let table = "cricket.service loaded failed failed cricket: Kubernetes container runtime\n\
                     systemd-sysctl.service loaded failed failed Apply Kernel Variables\n";
        assert_eq!(
            first_words(table),
            ["cricket.service", "systemd-sysctl.service"]
        );
        assert!(first_words("").is_empty() && first_words("\n").is_empty());
    }
}
