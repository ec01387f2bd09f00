//! Where the programs are that the tests drive, and running one to its end.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Directories where distributions put CNI plugins (upstream's own, Debian's and Arch's).
pub const CNI_DIRS: [&str; 3] = ["/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni"];

/// `name` in $PATH or in the sbin directories, which a plain user's $PATH lacks.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
}

/// As [`find`], but a missing program ends the test with the way to get it.
#[track_caller]
pub fn need(name: &str) -> PathBuf {
    find(name).unwrap_or_else(|| panic!("{name} is not installed: `make deps` installs it"))
}

/// crictl: $CRICTL, else the one `make deps` built, else the one in $PATH.
#[track_caller]
pub fn crictl() -> PathBuf {
    std::env::var_os("CRICTL")
        .map(PathBuf::from)
        .or_else(|| built("crictl"))
        .unwrap_or_else(|| need("crictl"))
}

/// docker-registry: the one `make deps` built, else the one in $PATH.
pub fn docker_registry() -> Option<PathBuf> {
    built("docker-registry").or_else(|| find("docker-registry"))
}

/// A runc with idmapped mounts, 1.2 or later: the one `make deps` built, else the one in $PATH,
/// which `make deps` has found to be recent enough then.
#[track_caller]
pub fn current_runc() -> PathBuf {
    built("runc").unwrap_or_else(|| need("runc"))
}

/// policy-oracle: what containers/image itself makes of an image and a policy, and of
/// registries.conf.
#[track_caller]
pub fn policy_oracle() -> PathBuf {
    built("policy-oracle").expect("policy-oracle: `make deps` builds it")
}

/// A program that `make deps` built because the distribution has no package of it, or
/// one that is too old.
fn built(name: &str) -> Option<PathBuf> {
    let file = workspace().join("target/tools").join(name);
    file.is_file().then_some(file)
}

/// The root of the source tree.
pub fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors()
        .nth(2)
        .expect("tests/harness is two below the root")
        .to_owned()
}

/// The directories of [`CNI_DIRS`] that hold the bridge plugin.
#[track_caller]
pub fn cni_dirs() -> Vec<PathBuf> {
    let dirs: Vec<_> = CNI_DIRS
        .iter()
        .map(PathBuf::from)
        .filter(|dir| dir.join("bridge").is_file())
        .collect();
    assert!(
        !dirs.is_empty(),
        "no CNI plugins in {CNI_DIRS:?}: `make deps` installs them"
    );
    dirs
}

/// The program file of one CNI plugin.
#[track_caller]
pub fn cni_plugin(name: &str) -> PathBuf {
    let found = cni_dirs()
        .into_iter()
        .map(|dir| dir.join(name))
        .find(|file| file.is_file());
    found.unwrap_or_else(|| panic!("CNI plugin {name} is not in {CNI_DIRS:?}"))
}

/// Runs to the end; anything but exit status 0 ends the test with what the program wrote.
#[track_caller]
pub fn run(command: &mut Command) -> String {
    let output = output(command);
    assert!(
        output.status.success(),
        "{command:?}: {}\nstdout: {}\nstderr: {}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs to the end, whatever that is; only a program that cannot be started ends the test.
#[track_caller]
pub fn output(command: &mut Command) -> Output {
    command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// Ends the test unless it runs as root: mounts, namespaces and cgroups need it.
#[track_caller]
pub fn need_root() {
    assert!(
        nix::unistd::geteuid().is_root(),
        "this needs root: mounts, namespaces, cgroups"
    );
}
