//! What `contrib/install.sh` puts where, and what systemd's own tools say of it. No systemd runs
//! here: they work on the scratch root. In a machine: `make test-service`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

const TREE: &str = env!("CARGO_MANIFEST_DIR");
const UNITS: &str = "usr/lib/systemd/system";
const OURS: [&str; 2] = ["cricket.service", "cricket-shutdown.service"];

/// Runs `install.sh VERB` for `root`; the programs are stand-ins, since a test run need not have
/// built all three.
fn install(verb: &str, root: &Path, built: &Path) {
    let profile = built.join("debug");
    fs::create_dir_all(&profile).unwrap();
    for program in ["cricket", "conmon", "pause"] {
        fs::write(profile.join(program), "#!/bin/sh\n").unwrap();
        fs::set_permissions(profile.join(program), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let status = Command::new("contrib/install.sh")
        .arg(verb)
        .current_dir(TREE)
        .env("DESTDIR", root)
        .env("PREFIX", "/usr")
        .env("PROFILE", "debug")
        .env("CARGO_TARGET_DIR", built)
        .status()
        .unwrap();
    assert!(status.success(), "install.sh {verb}: {status}");
}

fn installed() -> (TempDir, TempDir) {
    let (root, built) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    install("install", root.path(), built.path());
    (root, built)
}

/// What a systemd tool says, standard output and error together, and whether it succeeded.
fn tool(program: &str, arguments: &[&str]) -> (String, bool) {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}: install systemd's package"));
    let all = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&all).trim().to_owned();
    (text, output.status.success())
}

/// Every file below a directory, relative to it.
fn files(root: &Path) -> Vec<String> {
    let (text, _) = tool(
        "find",
        &[&root.to_string_lossy(), "-type", "f", "-printf", "%P\\n"],
    );
    let mut all: Vec<String> = text.lines().map(str::to_owned).collect();
    all.sort();
    all
}

#[test]
fn systemd_finds_nothing_wrong_in_the_units() {
    let (root, _built) = installed();
    let root = root.path();
    // What they refer to, and a machine has.
    for target in ["sysinit", "basic", "shutdown", "network-online", "network"] {
        let file = root.join(UNITS).join(format!("{target}.target"));
        fs::write(
            file,
            "[Unit]\nDescription=stand-in\nDefaultDependencies=no\n",
        )
        .unwrap();
    }
    fs::create_dir_all(root.join("bin")).unwrap();
    for program in ["kill", "sleep"] {
        fs::copy("/bin/true", root.join("bin").join(program)).unwrap();
    }
    let at = format!("--root={}", root.display());
    let verify = || {
        let arguments = ["verify", "--man=no", &at, OURS[0], OURS[1]];
        tool("systemd-analyze", &arguments)
    };
    assert_eq!(verify(), (String::new(), true));
    let unit = root.join(UNITS).join(OURS[1]);
    let text = fs::read_to_string(&unit).unwrap();
    fs::write(&unit, text.replace("RefuseManualStop", "RefuseManuelStop")).unwrap();
    let (said, _) = verify();
    assert!(said.contains("RefuseManuelStop"), "{said}");
}

#[test]
fn enabling_cricket_enables_its_shutdown_and_gives_it_crio_s_names() {
    let (root, _built) = installed();
    let at = format!("--root={}", root.path().display());
    let (said, done) = tool("systemctl", &[&at, "enable", "cricket.service"]);
    assert!(done, "{said}");
    let links = root.path().join("etc/systemd/system");
    for (link, unit) in [
        ("crio.service", OURS[0]),
        ("cri-o.service", OURS[0]),
        ("multi-user.target.wants/cricket.service", OURS[0]),
        ("cricket.service.wants/cricket-shutdown.service", OURS[1]),
    ] {
        let target = fs::read_link(links.join(link)).unwrap_or_else(|error| {
            panic!("{link}: {error}; systemctl said:\n{said}");
        });
        assert_eq!(target.file_name().unwrap(), unit, "{link}");
    }
    let (said, done) = tool("systemd-tmpfiles", &[&at, "--create", "cricket.conf"]);
    assert!(done, "{said}");
    assert!(root.path().join("run/crio").is_dir());
    assert!(root.path().join("etc/cni/net.d").is_dir());
}

#[test]
fn an_installation_is_what_the_package_has_and_keeps_an_edited_configuration() {
    let (root, built) = installed();
    let listed = fs::read_to_string(Path::new(TREE).join("tests/arch/files")).unwrap();
    let expected: Vec<String> = listed
        .lines()
        // The package's own, and makepkg's way with manual pages.
        .filter(|line| !line.contains("/licenses/"))
        .map(|line| line.trim_end_matches(".gz").to_owned())
        .collect();
    assert_eq!(files(root.path()), expected);

    let config = root.path().join("etc/crio/crio.conf");
    fs::write(&config, "# mine\n").unwrap();
    install("install", root.path(), built.path());
    assert_eq!(fs::read_to_string(&config).unwrap(), "# mine\n");
    install("uninstall", root.path(), built.path());
    assert_eq!(files(root.path()), ["etc/crio/crio.conf"]);
}
