//! OpenPGP keys and simple signatures, made by gpg in a home of its own.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use tempfile::TempDir;

use crate::tools;

/// A gpg home with secret keys without passphrases. Its agent ends with it.
#[derive(Debug)]
pub struct Gpg {
    // outside a node's directory: the agent is not a process that the daemon has left
    home: TempDir,
}

/// When a key is made and when it ends, as gpg writes times and spans.
#[derive(Debug, Clone, Copy)]
pub struct Lifetime {
    /// `20200101T000000`; empty for now.
    pub made: &'static str,
    /// `1d`; `0` for never.
    pub ends: &'static str,
}

/// A key of today that never ends.
pub const FOREVER: Lifetime = Lifetime {
    made: "",
    ends: "0",
};

impl Default for Gpg {
    fn default() -> Gpg {
        Gpg::new()
    }
}

impl Gpg {
    /// An empty home.
    #[track_caller]
    pub fn new() -> Gpg {
        let home = tempfile::Builder::new().prefix("gk-").tempdir().unwrap();
        Gpg { home }
    }

    /// The directory, for `GNUPGHOME`.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    fn command(&self, at: &str) -> Command {
        let mut command = Command::new(tools::need("gpg"));
        command.env("GNUPGHOME", self.home());
        command.args(["--batch", "--yes", "--quiet", "--no-tty"]);
        command.args(["--pinentry-mode", "loopback", "--passphrase", ""]);
        if !at.is_empty() {
            command.args(["--faked-system-time", &format!("{at}!")]);
        }
        command
    }

    /// Makes a signing key and returns its fingerprint.
    #[track_caller]
    pub fn make(&self, name: &str, algorithm: &str, lifetime: Lifetime) -> String {
        self.make_with(name, algorithm, lifetime, &[])
    }

    /// As [`Gpg::make`]; `more` are further options for gpg.
    #[track_caller]
    pub fn make_with(
        &self,
        name: &str,
        algorithm: &str,
        lifetime: Lifetime,
        more: &[&str],
    ) -> String {
        let mut command = self.command(lifetime.made);
        command.args(more);
        let user = format!("{name} <{name}@example.org>");
        tools::run(command.args([
            "--quick-generate-key",
            &user,
            algorithm,
            "sign",
            lifetime.ends,
        ]));
        let listed = tools::run(
            self.command("")
                .args(["--with-colons", "--list-keys", &user]),
        );
        let line = listed.lines().find(|line| line.starts_with("fpr:"));
        let fingerprint = line.and_then(|line| line.split(':').nth(9));
        fingerprint.expect("a key has a fingerprint").to_owned()
    }

    /// Revokes a key, by the certificate that gpg has made with it.
    #[track_caller]
    pub fn revoke(&self, fingerprint: &str) {
        let file = self
            .home()
            .join(format!("openpgp-revocs.d/{fingerprint}.rev"));
        let text = std::fs::read_to_string(&file).unwrap();
        // gpg puts a colon there, against revoking by accident
        let usable = self.home().join("revocation.asc");
        std::fs::write(&usable, text.replace(":-----BEGIN", "-----BEGIN")).unwrap();
        tools::run(self.command("").arg("--import").arg(usable));
    }

    /// Writes the public key into `dir` and returns the file.
    #[track_caller]
    pub fn export(&self, fingerprint: &str, dir: &Path, armor: bool) -> PathBuf {
        let file = dir.join(format!("{fingerprint}.gpg"));
        let mut command = self.command("");
        command.arg("--output").arg(&file);
        if armor {
            command.arg("--armor");
        }
        tools::run(command.args(["--export", fingerprint]));
        file
    }

    /// Signs bytes as they are; `more` are further options for gpg.
    #[track_caller]
    pub fn sign(&self, fingerprint: &str, bytes: &[u8], at: &str, more: &[&str]) -> Vec<u8> {
        let (input, output) = (self.home().join("in"), self.home().join("out"));
        std::fs::write(&input, bytes).unwrap();
        let mut command = self.command(at);
        command.args(more).args(["--local-user", fingerprint]);
        tools::run(
            command
                .arg("--output")
                .arg(&output)
                .arg("--sign")
                .arg(input),
        );
        std::fs::read(output).unwrap()
    }

    /// A simple signature (containers-signature(5)) for an image's name and manifest.
    #[track_caller]
    pub fn sign_image(&self, fingerprint: &str, name: &str, digest: &str, at: &str) -> Vec<u8> {
        self.sign(fingerprint, payload(name, digest).as_bytes(), at, &[])
    }
}

/// What a simple signature signs.
pub fn payload(name: &str, digest: &str) -> String {
    json!({
        "critical": {
            "type": "atomic container signature",
            "image": { "docker-manifest-digest": digest },
            "identity": { "docker-reference": name },
        },
        "optional": { "creator": "cricket-harness" },
    })
    .to_string()
}

impl Drop for Gpg {
    fn drop(&mut self) {
        let mut command = Command::new(tools::need("gpgconf"));
        // an agent that is gone already is as good
        drop(
            command
                .env("GNUPGHOME", self.home())
                .args(["--kill", "all"])
                .output(),
        );
    }
}
