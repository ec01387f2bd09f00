//! What an OCI runtime says that it can do: `<runtime> features` (runtime-spec, features.md), asked
//! once per handler at the start.
//!
//! runc answers since 1.1, crun since 1.8; what an older one does not say it does not have. What
//! the kernel adds to it, [`Features::with_kernel`] says.

use std::process::Stdio;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

use super::Program;
use crate::sys::calls;

/// Longest answer that is read, in bytes: runc's has 5 KiB.
const MAX_ANSWER_BYTES: u64 = 1 << 20;
/// How long a runtime may take to answer. It takes milliseconds; a machine that has just booted
/// reads the program from a slow disk first, and 5 s were not enough for an emulated one. It is
/// asked once, so an answer that is missed is missed until the next start.
const DEADLINE: Duration = Duration::from_secs(30);

/// Recursive mount attributes came with mount_setattr(2).
const MOUNT_SETATTR: (u32, u32) = (5, 12);
/// overlayfs takes idmapped lower directories from here on.
const IDMAPPED_LAYERS: (u32, u32) = (5, 19);

/// What pods of a handler can ask for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Features {
    /// Mounts that are read-only with all mounts below.
    pub recursive_read_only: bool,
    /// Pods with a user namespace of their own, their root filesystems and volumes idmapped.
    pub user_namespaces: bool,
}

/// The parts of the answer that are looked at.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Answer {
    mount_options: Vec<String>,
    linux: Linux,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Linux {
    namespaces: Vec<String>,
    mount_extensions: MountExtensions,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct MountExtensions {
    idmap: Idmap,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Idmap {
    enabled: Option<bool>,
}

impl Features {
    /// Asks the runtime. One that does not answer, or not in time, has none (`None`): pods that need
    /// none run with it all the same.
    pub(super) async fn of(program: &Program) -> Option<Features> {
        match ask(program, DEADLINE).await {
            Ok(features) => Some(features),
            Err(problem) => {
                tracing::warn!(
                    handler = %program.handler,
                    runtime = %program.path.display(),
                    %problem,
                    "the runtime does not say what it can do: no recursive read-only mounts and no user namespaces with it"
                );
                None
            }
        }
    }

    /// What is left of it on a kernel of this version, major and minor.
    #[must_use]
    pub(super) fn with_kernel(self, kernel: (u32, u32)) -> Features {
        Features {
            recursive_read_only: self.recursive_read_only && kernel >= MOUNT_SETATTR,
            user_namespaces: self.user_namespaces && kernel >= IDMAPPED_LAYERS,
        }
    }

    fn parse(text: &[u8]) -> Result<Features, serde_json::Error> {
        let answer: Answer = serde_json::from_slice(text)?;
        let has = |list: &[String], name: &str| list.iter().any(|one| one == name);
        Ok(Features {
            recursive_read_only: has(&answer.mount_options, "rro"),
            user_namespaces: has(&answer.linux.namespaces, "user")
                && answer.linux.mount_extensions.idmap.enabled == Some(true),
        })
    }
}

async fn ask(program: &Program, deadline: Duration) -> Result<Features, String> {
    let mut child = Command::new(&program.path)
        .arg("features")
        .envs(calls::mark())
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| error.to_string())?;
    let stdout = child.stdout.take();
    let finish = async {
        let text = match stdout {
            Some(pipe) => read_bounded(pipe).await?,
            None => Vec::new(),
        };
        let status = child.wait().await.map_err(|error| error.to_string())?;
        if !status.success() {
            return Err(format!("`features`: {status}"));
        }
        Features::parse(&text).map_err(|error| format!("`features`: {error}"))
    };
    tokio::time::timeout(deadline, finish)
        .await
        .unwrap_or_else(|_| Err(format!("`features`: no answer within {deadline:?}")))
}

async fn read_bounded(pipe: impl AsyncRead + Unpin) -> Result<Vec<u8>, String> {
    let mut text = Vec::new();
    let mut bounded = pipe.take(MAX_ANSWER_BYTES + 1);
    let read = bounded.read_to_end(&mut text).await;
    read.map_err(|error| error.to_string())?;
    if text.len() as u64 > MAX_ANSWER_BYTES {
        return Err(format!("`features`: more than {MAX_ANSWER_BYTES} bytes"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const NEW: Features = Features {
        recursive_read_only: true,
        user_namespaces: true,
    };

    #[test]
    fn an_answer_says_what_pods_can_have() {
        let rro = |user_namespaces| Features {
            recursive_read_only: true,
            user_namespaces,
        };
        for (text, want) in [
            // runc 1.1.5: no word of idmapped mounts
            (
                r#"{"mountOptions":["ro","rro"],"linux":{"namespaces":["user"]}}"#,
                rro(false),
            ),
            (
                r#"{"mountOptions":["rro"],"linux":{"namespaces":["user"],"mountExtensions":{"idmap":{"enabled":true}}}}"#,
                rro(true),
            ),
            (
                r#"{"mountOptions":["rro"],"linux":{"namespaces":["user"],"mountExtensions":{"idmap":{"enabled":false}}}}"#,
                rro(false),
            ),
            (
                r#"{"mountOptions":["rro"],"linux":{"namespaces":["pid"],"mountExtensions":{"idmap":{"enabled":true}}}}"#,
                rro(false),
            ),
            ("{}", Features::default()),
        ] {
            assert_eq!(Features::parse(text.as_bytes()).unwrap(), want, "{text}");
        }
        assert!(Features::parse(b"runc: unknown command").is_err());
    }

    #[test]
    fn an_old_kernel_takes_away_what_it_does_not_do() {
        let old = Features {
            recursive_read_only: true,
            user_namespaces: false,
        };
        for (kernel, want) in [
            ((5, 11), Features::default()),
            ((5, 12), old),
            ((5, 18), old),
            ((5, 19), NEW),
            ((6, 1), NEW),
        ] {
            assert_eq!(NEW.with_kernel(kernel), want, "{kernel:?}");
        }
    }

    fn program(script: &str) -> (tempfile::TempDir, Program) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("runtime");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let program = Program {
            handler: "fake".into(),
            path,
            root: directory.path().join("root"),
            systemd_cgroup: false,
            call_timeout: std::time::Duration::from_secs(60),
        };
        (directory, program)
    }

    #[tokio::test]
    async fn a_runtime_that_fails_floods_or_hangs_has_no_features_and_holds_nobody_up() {
        let (_one, failing) = program("echo '{}'; exit 1");
        let (_two, flooding) = program("exec yes");
        let (_three, hanging) = program("exec sleep 1000");
        for (program, want) in [
            (failing, "exit status: 1"),
            (flooding, "more than 1048576 bytes"),
            (hanging, "no answer"),
        ] {
            let error = ask(&program, Duration::from_secs(2)).await.unwrap_err();
            assert!(error.contains(want), "{error}");
        }
    }
}
