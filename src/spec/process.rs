//! The `process` section: what runs, as whom, and with which rights and limits.

use std::collections::HashSet;

use oci_spec::runtime::{
    Capabilities as OciCaps, LinuxCapabilities, PosixRlimit, PosixRlimitBuilder, PosixRlimitType,
    Process, User,
};

use super::config::{ContainerConfig, SandboxSecurity, Security};
use super::error::SpecError;
use super::inputs::{Host, Image, Inputs, Settings, Ulimit};
use super::{annotations, env, lsm, paths};
use crate::security::capabilities::{CapSet, CapsRequest, ProcessCaps};
use crate::security::users::{User as Account, UserRequest};

/// What the OCI runtime would inherit otherwise is that of the daemon's unit.
const UMASK: u32 = 0o022;

/// The OOM score adjustment the kernel takes.
const OOM_SCORES: std::ops::RangeInclusive<i64> = -1000..=1000;

/// Whom the container's user has to be looked up as (`security::users::lookup`).
pub fn user_request(security: &Security, image: &Image) -> UserRequest {
    UserRequest {
        username: security.run_as_username.clone(),
        uid: security.run_as_user,
        gid: security.run_as_group,
        image_user: image.user.clone(),
        supplemental_groups: security.supplemental_groups.clone(),
        policy: security.supplemental_groups_policy,
    }
}

/// The same for a pod's pause process, whose root has no account files.
pub fn pause_user_request(security: &SandboxSecurity) -> UserRequest {
    UserRequest {
        uid: security.run_as_user,
        gid: security.run_as_group,
        supplemental_groups: security.supplemental_groups.clone(),
        policy: security.supplemental_groups_policy,
        ..UserRequest::default()
    }
}

pub(super) fn process(inputs: &Inputs, caps: ProcessCaps) -> Result<Process, SpecError> {
    let config = inputs.config;
    let oom_score = config
        .resources
        .as_ref()
        .map_or(0, |resources| resources.oom_score_adj);
    let mut process = Process::default();
    process.set_terminal(Some(config.tty));
    let mut user = user(inputs.user);
    if let Some(umask) = annotations::umask(&inputs.pod.annotations)? {
        user.set_umask(Some(umask));
    }
    process.set_user(user);
    process.set_args(Some(args(config, inputs.image)?));
    process.set_env(Some(env::env(inputs)?));
    process.set_cwd(cwd(config, inputs.image)?.into());
    process.set_capabilities(Some(oci_caps(caps)));
    process.set_rlimits(rlimits(&inputs.settings.default_ulimits)?);
    process.set_no_new_privileges(Some(config.security.no_new_privs));
    process.set_oom_score_adj(Some(oom_score_adj(oom_score, inputs.host)?));
    process.set_apparmor_profile(lsm::apparmor(
        &config.security,
        inputs.settings,
        inputs.host,
    )?);
    let label = inputs.selinux.map(|labels| labels.process.clone());
    process.set_selinux_label(label.filter(|label| !label.is_empty()));
    Ok(process)
}

/// Command and arguments by the rule of the CRI: `command` replaces entrypoint and Cmd, `args`
/// replaces the Cmd.
///
/// # Errors
/// When there are none, or one cannot be.
pub fn args(config: &ContainerConfig, image: &Image) -> Result<Vec<String>, SpecError> {
    let (head, tail) = match (config.command.is_empty(), config.args.is_empty()) {
        (true, true) => (&image.entrypoint, &image.cmd),
        (true, false) => (&image.entrypoint, &config.args),
        (false, _) => (&config.command, &config.args),
    };
    let args: Vec<_> = head.iter().chain(tail).cloned().collect();
    if args.is_empty() {
        return Err(SpecError::NoCommand {
            image: image.name.clone(),
        });
    }
    words(args)
}

/// Words that the kernel can be given.
fn words(words: Vec<String>) -> Result<Vec<String>, SpecError> {
    match words.iter().position(|word| word.contains('\0')) {
        Some(at) => Err(SpecError::invalid(
            "command",
            format!("word {at} has a NUL in it"),
        )),
        None if words.is_empty() => Err(SpecError::invalid("command", "there is none")),
        None => Ok(words),
    }
}

/// The OCI runtime wants it absolute; an image's may be relative, which is meant from the root.
fn cwd(config: &ContainerConfig, image: &Image) -> Result<String, SpecError> {
    match (config.working_dir.as_str(), image.working_dir.as_str()) {
        ("", "") => Ok("/".to_owned()),
        ("", image) => paths::clean("working directory of the image", image),
        (wanted, _) => paths::clean("working_dir", wanted),
    }
}

pub(super) fn user(account: &Account) -> User {
    let mut user = User::default();
    user.set_uid(account.uid);
    user.set_gid(account.gid);
    user.set_umask(Some(UMASK));
    user.set_additional_gids(Some(account.groups.clone()));
    user
}

/// The five sets of capabilities.
pub(super) fn caps(
    security: &Security,
    settings: &Settings,
    host: &Host,
) -> Result<ProcessCaps, SpecError> {
    let request = CapsRequest {
        base: settings.default_capabilities,
        add: &security.capabilities.add,
        drop: &security.capabilities.drop,
        add_ambient: &security.capabilities.add_ambient,
        privileged: security.privileged,
        inheritable: settings.add_inheritable_capabilities,
        bounding: host.bounding,
    };
    Ok(request.resolve()?)
}

pub(super) fn oci_caps(caps: ProcessCaps) -> LinuxCapabilities {
    let set = |set: CapSet| -> Option<OciCaps> {
        // its names are ours without the prefix; a test goes through all of them
        Some(
            set.names()
                .filter_map(|name| name[4..].parse().ok())
                .collect::<HashSet<_>>(),
        )
    };
    let mut oci = LinuxCapabilities::default();
    oci.set_bounding(set(caps.bounding));
    oci.set_effective(set(caps.effective));
    oci.set_inheritable(set(caps.inheritable));
    oci.set_permitted(set(caps.permitted));
    oci.set_ambient(set(caps.ambient));
    oci
}

fn rlimits(ulimits: &[Ulimit]) -> Result<Option<Vec<PosixRlimit>>, SpecError> {
    if ulimits.is_empty() {
        return Ok(None);
    }
    let mut rlimits: Vec<PosixRlimit> = Vec::new();
    for ulimit in ulimits {
        let upper = ulimit.name.to_ascii_uppercase();
        let name = upper.strip_prefix("RLIMIT_").unwrap_or(&upper);
        let kind: PosixRlimitType = format!("RLIMIT_{name}").parse().map_err(|_| {
            SpecError::invalid(
                "default_ulimits",
                format!("unknown limit `{}`", ulimit.name),
            )
        })?;
        if ulimit.soft > ulimit.hard {
            return Err(SpecError::invalid(
                "default_ulimits",
                format!(
                    "{}: soft {} is above hard {}",
                    ulimit.name, ulimit.soft, ulimit.hard
                ),
            ));
        }
        let rlimit = PosixRlimitBuilder::default()
            .typ(kind)
            .soft(ulimit.soft)
            .hard(ulimit.hard)
            .build()
            .map_err(|error| SpecError::invalid("default_ulimits", error.to_string()))?;
        // runc refuses a limit that is named twice; the last one counts
        rlimits.retain(|known| known.typ() != kind);
        rlimits.push(rlimit);
    }
    Ok(Some(rlimits))
}

/// Without CAP_SYS_RESOURCE the kernel refuses to go below the daemon's own adjustment, and the
/// container would not start (proc_pid_oom_score_adj(5)).
pub(super) fn oom_score_adj(wanted: i64, host: &Host) -> Result<i32, SpecError> {
    let wanted = i32::try_from(wanted)
        .ok()
        .filter(|score| OOM_SCORES.contains(&i64::from(*score)))
        .ok_or_else(|| {
            SpecError::invalid(
                "resources.oom_score_adj",
                format!("{wanted} is not -1000 to 1000"),
            )
        })?;
    Ok(if host.can_lower_oom {
        wanted
    } else {
        wanted.max(host.own_oom_score_adj)
    })
}
