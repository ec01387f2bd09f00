//! The OCI runtime spec of a container as a pure function of its inputs, one file per section.
//!
//! Nothing here reads a file, asks the kernel or knows the time: `config` is what the kubelet
//! wants, `inputs` adds what others found out, and the same inputs give the same configuration.
//! So every rule about what a container may do can be tested by comparing JSON.
//!
//! The order of a caller: `check` before anything is made; then read what `inputs` asks for
//! (`user_request` says whom to look up, `localhost_profile` which file to parse); `container`;
//! write config.json. What the CRI asks for and this room cannot do yet is refused by name.

use std::collections::BTreeMap;

use oci_spec::runtime::{Linux, Root, Spec};

mod annotations;
mod cdi;
pub mod config;
mod devices;
mod env;
mod error;
mod hooks;
pub mod inputs;
mod lsm;
mod mounts;
mod namespaces;
mod paths;
mod pause;
mod process;
mod resources;
mod seccomp;
mod sysctls;
mod userns;
mod workloads;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod runs;
#[cfg(test)]
mod tests;

pub use annotations::{
    GRACE, check_userns, effective as effective_annotations, idle_annotations, idle_entries,
    pointless as pointless_annotations, shm_bytes, skips_labelled, umask, unified,
};
pub use devices::check_devices;
pub use error::SpecError;
pub use inputs::{Inputs, PauseInputs};
pub use lsm::{APPARMOR_FIELD, ApparmorProfile, apparmor_profile, selinux_labels, selinux_options};
pub use mounts::{check_mounts, peers};
pub use namespaces::check_namespaces;
pub use pause::pause;
pub use process::{args, pause_user_request, user_request};
pub use resources::limits;
pub use seccomp::localhost_profile;
pub use sysctls::{check_sysctls, sysctl_file};
pub use workloads::{Cpu, PAUSE, Workload, workload};

use config::{ContainerConfig, NamespaceMode, SandboxSecurity};
use inputs::{Host, Pod, Settings};

/// The version of the OCI runtime spec whose words are used; runc from 1.1 and crun know it.
const OCI_VERSION: &str = "1.1.0";

/// Longest name of a container; Kubernetes' own have at most 63 bytes.
const MAX_NAME_BYTES: usize = 4096;

/// Everything about a request that can be wrong without looking at image or host, to be called
/// before the first side effect.
pub fn check(
    config: &ContainerConfig,
    pod: &Pod,
    settings: &Settings,
    host: &Host,
) -> Result<(), SpecError> {
    if config.security.privileged && !pod.privileged {
        return Err(SpecError::PrivilegedInPlainSandbox {
            sandbox: pod.id.clone(),
        });
    }
    check_name(&config.name)?;
    check_namespaces(
        config
            .security
            .namespaces
            .as_ref()
            .unwrap_or(&pod.namespaces),
    )?;
    userns::check_same(&pod.namespaces, config.security.namespaces.as_ref())?;
    check_mounts(config, &pod.namespaces, settings)?;
    check_devices(config)?;
    lsm::apparmor(&config.security, settings, host)?;
    localhost_profile(&config.security)?;
    check_strings(config, host)?;
    process::caps(&config.security, settings, host)?;
    paths::hidden(&config.security)?;
    if let Some(wanted) = &config.resources {
        process::oom_score_adj(wanted.oom_score_adj, host)?;
        limits(wanted, settings, host)?;
    }
    Ok(())
}

/// The name is part of names of files, annotations and log lines.
fn check_name(name: &str) -> Result<(), SpecError> {
    if !name.is_empty() && name.len() <= MAX_NAME_BYTES && !name.contains(['/', '\0', '\n']) {
        return Ok(());
    }
    let shown: String = name.chars().take(128).collect();
    let problem = format!(
        "`{}` is not a name: it is empty, too long, or holds `/`, NUL or a line break",
        shown.escape_debug()
    );
    Err(SpecError::invalid("config.metadata.name", problem))
}

/// What the kernel could not start the process with: exec(2) would tell nobody which string it is.
fn check_strings(config: &ContainerConfig, host: &Host) -> Result<(), SpecError> {
    let longest = host.longest_string.unwrap_or(usize::MAX);
    let too_long = |field: &str, shown: &str, length: usize| {
        let shown: String = shown.chars().take(64).collect();
        let problem = format!("{shown:?} has {length} bytes, the kernel takes at most {longest}");
        Err(SpecError::invalid(field, problem))
    };
    for (key, value) in env::requested(config)? {
        // `=` and NUL.
        let length = key.len() + value.len() + 2;
        if length > longest {
            return too_long("envs", key, length);
        }
    }
    for word in config.command.iter().chain(&config.args) {
        if word.len() + 1 > longest {
            return too_long("command", word, word.len() + 1);
        }
    }
    Ok(())
}

/// Everything about a pod's security context and sysctls that can be wrong, to be called before
/// the first side effect. Whether its user exists `security::users` says.
pub fn check_sandbox(
    security: &SandboxSecurity,
    sysctls: &BTreeMap<String, String>,
) -> Result<(), SpecError> {
    check_namespaces(&security.namespaces)?;
    if security.namespaces.pid == NamespaceMode::Target {
        let problem = "is for containers";
        return Err(SpecError::Namespace {
            namespace: "pid",
            mode: NamespaceMode::Target,
            problem,
        });
    }
    check_sysctls(sysctls, &security.namespaces)
}

/// The OCI configuration of a container.
pub fn container(inputs: &Inputs) -> Result<Spec, SpecError> {
    check(inputs.config, inputs.pod, inputs.settings, inputs.host)?;
    lsm::check_relabel(inputs.config, inputs)?;
    let security = &inputs.config.security;
    let caps = process::caps(security, inputs.settings, inputs.host)?;
    let (mounts, root_propagation) = mounts::mounts(inputs)?;
    let mut linux = self::linux(inputs)?;
    linux.set_rootfs_propagation(root_propagation.map(str::to_owned));
    linux.set_seccomp(seccomp::seccomp(
        security,
        inputs.seccomp,
        caps.bounding,
        inputs.host,
    )?);
    let mut root = Root::default();
    root.set_path(inputs.root.to_owned());
    root.set_readonly(Some(security.readonly_rootfs || inputs.settings.read_only));
    let mut spec = Spec::default();
    spec.set_version(OCI_VERSION.to_owned());
    spec.set_root(Some(root));
    spec.set_process(Some(process::process(inputs, caps)?));
    spec.set_mounts(Some(mounts));
    // the pod's UTS namespace has its name; runc refuses to set one in the host's
    spec.set_hostname(
        inputs
            .pod
            .utsns
            .is_some()
            .then(|| inputs.pod.hostname.clone()),
    );
    spec.set_annotations(Some(annotations::container(inputs)));
    spec.set_linux(Some(linux));
    hooks::add(&mut spec, inputs.hooks);
    // last, so that a device changes what was asked for elsewhere
    cdi::apply(&mut spec, inputs.cdi);
    Ok(spec)
}

fn linux(inputs: &Inputs) -> Result<Linux, SpecError> {
    let (config, pod, host) = (inputs.config, inputs.pod, inputs.host);
    let default = config::Resources::default();
    let wanted = config.resources.as_ref().unwrap_or(&default);
    let devices = devices::devices(inputs)?;
    let mut resources = resources::resources(wanted, inputs.settings, host)?;
    resources.set_devices(Some(devices.rules));
    let (masked, readonly) = paths::hidden(&config.security)?;
    let mut linux = Linux::default();
    linux.set_namespaces(Some(namespaces::namespaces(&config.security, pod, host)?));
    userns(&mut linux, pod);
    linux.set_sysctl(sysctls::sysctls(&pod.sysctls, &pod.namespaces)?);
    linux.set_resources(Some(resources));
    linux.set_cgroups_path(Some(inputs.cgroups_path.into()));
    linux.set_devices(Some(devices.nodes).filter(|nodes| !nodes.is_empty()));
    linux.set_masked_paths(Some(masked));
    linux.set_readonly_paths(Some(readonly));
    let mount_label = inputs.selinux.map(|labels| labels.mount.clone());
    linux.set_mount_label(mount_label.filter(|label| !label.is_empty()));
    Ok(linux)
}

/// The ids of the pod's user namespace, where it has one.
fn userns(linux: &mut Linux, pod: &Pod) {
    if let Some([uids, gids]) = userns::sections(&pod.namespaces) {
        linux.set_uid_mappings(Some(uids));
        linux.set_gid_mappings(Some(gids));
    }
}
