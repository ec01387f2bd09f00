//! `apparmor`: the profiles of containers, as the machine's kernel enforces them.

use std::fs;
use std::path::Path;

use cricket_harness::cri::security_profile::ProfileType;
use cricket_harness::cri::{ContainerConfig, SecurityProfile};
use cricket_harness::{Client, requests};

use crate::pods::{self, IMAGE, LOGS, said};
use crate::units::{output, systemctl, until};
use crate::{Outcome, daemon, scopes, together};

const OURS: &str = "crio-default";
/// The profile that this loads itself.
const NAMED: &str = "test-deny";
const NAMED_TEXT: &str = "profile test-deny flags=(attach_disconnected,mediate_deleted) {
  network, capability, file, mount, umount, signal, ptrace,
  deny /denied/** w,
}
";
/// The kernel's list of profiles.
const LIST: &str = "/sys/kernel/security/apparmor/profiles";
/// Takes the name of a profile out of the kernel.
const UNLOAD: &str = "/sys/kernel/security/apparmor/.remove";
const DROP_IN: &str = "/etc/crio/crio.conf.d/50-apparmor.conf";
const PARSER: &str = "/usr/sbin/apparmor_parser";

/// What a confined container must not: write what is the whole node's, and mount.
const REACH: &str = "mkdir -p /mnt; echo h >/proc/sysrq-trigger && mount -t tmpfs none /mnt";

/// Runs all of it; each part makes its own pod and removes it.
pub async fn run() -> Outcome {
    let cri = daemon::connect().await?;
    pods::image(&cri).await?;
    if !loaded(OURS)? {
        return Err(format!("{OURS} was not loaded at the start"));
    }
    load(NAMED_TEXT)?;
    let outcome = together([
        ("the default", default(&cri).await),
        ("by request", by_request(&cri).await),
        ("missing", missing(&cri).await),
        ("unloaded", unloaded(&cri).await),
        ("configured", configured(&cri).await),
    ]);
    unload(NAMED)?;
    outcome
}

fn loaded(name: &str) -> Outcome<bool> {
    let list = fs::read_to_string(LIST).map_err(|error| format!("{LIST}: {error}"))?;
    Ok(list.lines().any(|line| line == format!("{name} (enforce)")))
}

fn load(profile: &str) -> Outcome {
    let file = "/var/tmp/profile";
    fs::write(file, profile).map_err(|error| format!("{file}: {error}"))?;
    match output(&[PARSER, "--skip-cache", "--replace", file])?.as_str() {
        "" => Ok(()),
        said => Err(format!("{PARSER}: {said}")),
    }
}

fn unload(name: &str) -> Outcome {
    fs::write(UNLOAD, name).map_err(|error| format!("unload {name}: {error}"))
}

/// Has the daemon read its configuration again. systemd does not wait for that: its own command has
/// ended when the signal is sent.
fn reload() -> Outcome {
    let journal = [
        "journalctl",
        "-b",
        "-u",
        "cricket",
        "-o",
        "cat",
        "--no-pager",
    ];
    let reloads = || Ok::<_, String>(output(&journal)?.matches("configuration reloaded").count());
    let before = reloads()?;
    systemctl(&["reload", "cricket.service"])?;
    until("the configuration is reloaded", || Ok(reloads()? > before))
}

/// A container that only a profile keeps from [`REACH`].
fn container() -> ContainerConfig {
    let mut config = requests::container("main", IMAGE, &["sleep", "100000"]);
    let security = requests::security(&mut config);
    security
        .capabilities
        .get_or_insert_default()
        .add_capabilities
        .push("SYS_ADMIN".into());
    config
}

fn profile(kind: ProfileType, name: &str) -> Option<SecurityProfile> {
    Some(SecurityProfile {
        profile_type: kind.into(),
        localhost_ref: name.into(),
    })
}

/// A pod with this container alone, and what becomes of it.
struct Made {
    pod: String,
    made: Outcome<String>,
}

impl Made {
    async fn of(cri: &Client, handler: &str, container: &ContainerConfig) -> Outcome<Made> {
        let config = requests::pod("apparmor", &scopes::parent("apparmor"), Path::new(LOGS));
        let pod = cri.run_pod_with(&config, handler).await;
        let pod = pod.map_err(said("RunPodSandbox"))?;
        let made = async {
            let id = cri.create(&pod, container, &config).await;
            let id = id.map_err(|error| format!("{:?}: {}", error.code(), error.message()))?;
            cri.start(&id).await.map_err(said("StartContainer"))?;
            Ok(id)
        };
        let made = made.await;
        Ok(Made { pod, made })
    }

    async fn remove(self, cri: &Client) -> Outcome {
        cri.stop_pod(&self.pod)
            .await
            .map_err(said("StopPodSandbox"))?;
        cri.remove_pod(&self.pod)
            .await
            .map_err(said("RemovePodSandbox"))
    }
}

/// The container runs under this profile, its commands too, and reaches as far as it may.
async fn runs_as(
    cri: &Client,
    handler: &str,
    container: &ContainerConfig,
    (label, reaches): (&str, bool),
) -> Outcome {
    let made = Made::of(cri, handler, container).await?;
    let id = made.made.clone()?;
    for of in ["/proc/1/attr/current", "/proc/self/attr/current"] {
        let found = pods::exec(cri, &id, &format!("cat {of}")).await?;
        if found.trim() != label {
            return Err(format!("{of} is {found:?} instead of {label:?}"));
        }
    }
    let reached = cri.exec(&id, &["sh", "-c", REACH], 60).await;
    let reached = reached.map_err(said("ExecSync"))?;
    if (reached.exit_code == 0) != reaches {
        let said = String::from_utf8_lossy(&reached.stderr).into_owned();
        return Err(format!("under {label}: {}: {said}", reached.exit_code));
    }
    made.remove(cri).await
}

/// Creating the container fails with these words.
async fn refused(cri: &Client, container: &ContainerConfig, words: &[&str]) -> Outcome {
    let made = Made::of(cri, "", container).await?;
    let told = match &made.made {
        Ok(id) => return Err(format!("container {id} was made, without {words:?}")),
        Err(told) => told.clone(),
    };
    match words.iter().find(|word| !told.contains(**word)) {
        Some(word) => Err(format!("{told:?} does not say {word:?}")),
        None => {
            println!("refused: {told}");
            made.remove(cri).await
        }
    }
}

async fn default(cri: &Client) -> Outcome {
    let confined = format!("{OURS} (enforce)");
    for handler in ["crun", "runc"] {
        runs_as(cri, handler, &container(), (&confined, false)).await?;
    }
    let mut asked = container();
    requests::security(&mut asked).apparmor = profile(ProfileType::RuntimeDefault, "");
    runs_as(cri, "", &asked, (&confined, false)).await?;
    let mut free = container();
    requests::security(&mut free).apparmor = profile(ProfileType::Unconfined, "");
    runs_as(cri, "", &free, ("unconfined", true)).await?;
    println!("containers, their commands too, are under {OURS} by crun and runc, and cannot mount");
    Ok(())
}

#[expect(deprecated, reason = "older kubelets fill the older field alone")]
async fn by_request(cri: &Client) -> Outcome {
    let mut by_field = container();
    requests::security(&mut by_field).apparmor = profile(ProfileType::Localhost, NAMED);
    let mut by_text = container();
    requests::security(&mut by_text).apparmor_profile = format!("localhost/{NAMED}");
    for wanted in [&by_field, &by_text] {
        let made = Made::of(cri, "", wanted).await?;
        let id = made.made.clone()?;
        let script = "cat /proc/1/attr/current; mkdir -p /denied /free; touch /free/x;
            touch /denied/x 2>&1 || :";
        let said_by = pods::exec(cri, &id, script).await?;
        let right = said_by.starts_with(&format!("{NAMED} (enforce)\n"));
        if !right || !said_by.contains("/denied/x: Permission denied") {
            return Err(format!("under {NAMED}: {said_by:?}"));
        }
        made.remove(cri).await?;
    }
    println!("a profile of the node is enforced, by the newer field and by the older");
    Ok(())
}

async fn missing(cri: &Client) -> Outcome {
    let mut wanted = container();
    requests::security(&mut wanted).apparmor = profile(ProfileType::Localhost, "not-there");
    let words = [
        "InvalidArgument",
        "`not-there` is not loaded",
        "apparmor_parser",
    ];
    refused(cri, &wanted, &words).await
}

/// What `aa-teardown` does: the next container has the profile again, or is refused.
async fn unloaded(cri: &Client) -> Outcome {
    unload(OURS)?;
    let hidden = format!("{PARSER}.hidden");
    fs::rename(PARSER, &hidden).map_err(|error| error.to_string())?;
    let without = refused(cri, &container(), &["apparmor_parser", "install"]).await;
    fs::rename(&hidden, PARSER).map_err(|error| error.to_string())?;
    without?;
    let confined = format!("{OURS} (enforce)");
    runs_as(cri, "", &container(), (&confined, false)).await?;
    println!("{OURS} is loaded again when somebody has unloaded it");
    Ok(())
}

/// Another default, and one that goes away.
async fn configured(cri: &Client) -> Outcome {
    let text = format!("[crio.runtime]\napparmor_profile = \"{NAMED}\"\n");
    fs::write(DROP_IN, text).map_err(|error| format!("{DROP_IN}: {error}"))?;
    let done = async {
        reload()?;
        let confined = format!("{NAMED} (enforce)");
        runs_as(cri, "", &container(), (&confined, true)).await?;
        unload(NAMED)?;
        let words = ["apparmor_profile", "`test-deny` is not loaded"];
        let told = refused(cri, &container(), &words).await;
        load(NAMED_TEXT)?;
        told
    };
    let done = done.await;
    fs::remove_file(DROP_IN).map_err(|error| format!("{DROP_IN}: {error}"))?;
    reload()?;
    println!("apparmor_profile is live at a reload");
    done
}
