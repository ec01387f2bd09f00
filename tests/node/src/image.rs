//! What a machine boots from: the images that `image/build.sh` keeps, and throw-away disks of one run.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use nix::fcntl::{Flock, FlockArg};
use tempfile::TempDir;

use crate::error::NodeError;

/// What kind of machine is emulated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Guest {
    /// The one that this machine mostly is, too.
    #[default]
    Amd64,
    /// A 64-bit ARM.
    Arm64,
}

impl Guest {
    /// As Debian calls it.
    pub fn debian(self) -> &'static str {
        match self {
            Guest::Amd64 => "amd64",
            Guest::Arm64 => "arm64",
        }
    }

    /// What `image/build.sh` adds to the names of its parts.
    fn suffix(self) -> &'static str {
        match self {
            Guest::Amd64 => "",
            Guest::Arm64 => "-arm64",
        }
    }
}

/// The directory that `image/build.sh` fills. It is not built anew while this is there.
#[derive(Debug, Clone)]
pub struct Images {
    dir: PathBuf,
    guest: Guest,
    _lock: Arc<Flock<File>>,
}

impl Images {
    /// `$CRICKET_NODE_CACHE`, else `cricket/node` in the user's cache directory.
    pub fn find() -> PathBuf {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let below = |base: PathBuf| base.join("cricket/node");
        variable("CRICKET_NODE_CACHE")
            .map(PathBuf::from)
            .or_else(|| variable("XDG_CACHE_HOME").map(|dir| below(dir.into())))
            .or_else(|| variable("HOME").map(|dir| below(PathBuf::from(dir).join(".cache"))))
            .unwrap_or_else(|| "/var/cache/cricket/node".into())
    }

    /// Builds in `cache` what is missing there or has changed: minutes the first time.
    pub fn build(cache: &Path, guest: Guest) -> Result<Images, NodeError> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("image/build.sh");
        let status = Command::new(&script)
            .arg(cache)
            .arg(guest.debian())
            .status();
        let status = status.map_err(NodeError::io(script.display().to_string()))?;
        if !status.success() {
            let text = format!("{} {}: {status}", script.display(), cache.display());
            return Err(NodeError::Wrong(text));
        }
        let lock = cache.join("lock");
        // A cache that was copied may come without it.
        let file = File::options().create(true).append(true).open(&lock);
        let file = file.map_err(NodeError::io(lock.display().to_string()))?;
        let held = Flock::lock(file, FlockArg::LockShared);
        let held = held.map_err(|(_, error)| NodeError::Io {
            step: lock.display().to_string(),
            source: error.into(),
        })?;
        Ok(Images {
            dir: cache.to_owned(),
            guest,
            _lock: Arc::new(held),
        })
    }

    /// Adds a program of the emulator's tree to `command`, by that tree's own loader and libraries:
    /// no chroot and no mounts.
    pub(crate) fn program(&self, command: &mut Command, name: &str) {
        let tree = self.emulator();
        let libraries = tree.join("usr/lib/x86_64-linux-gnu");
        command
            .arg(tree.join("lib64/ld-linux-x86-64.so.2"))
            .arg("--library-path")
            .arg(format!("{0}:{0}/pulseaudio", libraries.display()))
            .arg(tree.join("usr/bin").join(name));
    }

    pub(crate) fn guest(&self) -> Guest {
        self.guest
    }

    pub(crate) fn share(&self, name: &str) -> PathBuf {
        self.emulator().join("usr/share").join(name)
    }

    pub(crate) fn kernel(&self) -> PathBuf {
        self.part("kernel", "")
    }

    pub(crate) fn initrd(&self) -> PathBuf {
        self.part("initrd", "")
    }

    fn emulator(&self) -> PathBuf {
        self.part("emulator", "")
    }

    fn disk(&self) -> PathBuf {
        self.part("guest", ".raw")
    }

    fn part(&self, name: &str, extension: &str) -> PathBuf {
        let suffix = self.guest.suffix();
        self.dir.join(format!("{name}{suffix}{extension}"))
    }
}

/// One run's directory: the root disk's changes, the payload, the console's log.
#[derive(Debug)]
pub struct Workshop {
    images: Images,
    dir: TempDir,
}

impl Workshop {
    /// Leaves the directory where it is when this is dropped.
    pub fn keep(&mut self) -> PathBuf {
        self.dir.disable_cleanup(true);
        self.dir().to_owned()
    }

    /// A fresh root disk over the image, and a payload disk with what `staged` holds.
    pub fn open(images: &Images, staged: &Path) -> Result<Workshop, NodeError> {
        let dir = tempfile::Builder::new()
            .prefix("cricket-node-")
            .tempdir()
            .map_err(NodeError::io("make a scratch directory"))?;
        let workshop = Workshop {
            images: images.clone(),
            dir,
        };
        let mut pack = Command::new("tar");
        pack.arg("-C").arg(staged).arg("-cf");
        run(pack.arg(workshop.payload()).arg("."))?;
        workshop.renew()?;
        Ok(workshop)
    }

    /// A root disk as freshly installed; the old one is gone.
    pub fn renew(&self) -> Result<(), NodeError> {
        // The loader is the program: qemu-img is of the emulator's tree.
        let mut env = Command::new("env");
        self.images.program(&mut env, "qemu-img");
        env.args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"])
            .arg(self.images.disk())
            .arg(self.root());
        run(&mut env)
    }

    /// A new ext4 disk of `size` bytes; its inode tables are written now, not by the guest later.
    pub fn disk(&self, name: &str, size: u64) -> Result<PathBuf, NodeError> {
        let file = self.dir().join(name);
        let made = File::create(&file).and_then(|made| made.set_len(size));
        made.map_err(NodeError::io(file.display().to_string()))?;
        let options = [
            "-q",
            "-F",
            "-t",
            "ext4",
            "-E",
            "lazy_itable_init=0,lazy_journal_init=0",
        ];
        run(Command::new("/sbin/mke2fs").args(options).arg(&file))?;
        Ok(file)
    }

    /// The directory, gone when this is dropped.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn images(&self) -> &Images {
        &self.images
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.dir().join("root.qcow2")
    }

    pub(crate) fn payload(&self) -> PathBuf {
        self.dir().join("payload.tar")
    }
}

/// Runs a program of this side to its end, which must be good.
pub fn run(command: &mut Command) -> Result<(), NodeError> {
    let program = format!("{command:?}");
    let output = command.output().map_err(NodeError::io(program.clone()))?;
    if output.status.success() {
        return Ok(());
    }
    let text = [output.stdout, output.stderr].concat();
    Err(NodeError::Program {
        program,
        status: output.status.to_string(),
        output: String::from_utf8_lossy(&text).into_owned(),
    })
}
