//! The pause process of a pod: PID 1 of the PID namespace that the pod's containers share.
//!
//! It needs nothing but to live. It is masked like a container all the same: a container in its
//! PID namespace can reach its file system as /proc/1/root, so an unmasked /proc there would be
//! one for all of them.

use oci_spec::runtime::{Linux, LinuxCpu, LinuxNamespaceType, LinuxResources, Process, Root, Spec};

use super::error::SpecError;
use super::inputs::PauseInputs;
use super::mounts::{Mount, proc_mount};
use super::{annotations, devices, namespaces, paths, process};
use crate::security::capabilities::ProcessCaps;

/// What the kubelet gives its own pods' infrastructure: killed after everything else.
const OOM_SCORE_ADJ: i64 = -998;
/// The least that the kernel takes.
const CPU_SHARES: u64 = 2;

/// The OCI configuration of a pod's pause process.
pub fn pause(inputs: &PauseInputs) -> Result<Spec, SpecError> {
    let mut root = Root::default();
    root.set_path(inputs.root.to_owned());
    root.set_readonly(Some(true));
    // the OCI runtime's own init needs /proc, and makes its device nodes in /dev
    let dev = Mount::new(
        "/dev",
        "tmpfs",
        &["nosuid", "noexec", "mode=755", "size=64k"],
    );
    let mut spec = Spec::default();
    spec.set_version(super::OCI_VERSION.to_owned());
    spec.set_root(Some(root));
    spec.set_process(Some(self::process(inputs)?));
    spec.set_mounts(Some(vec![proc_mount().into_oci(), dev.into_oci()]));
    spec.set_hostname(None);
    spec.set_annotations(Some(annotations::pause(inputs)));
    spec.set_linux(Some(linux(inputs)));
    Ok(spec)
}

fn process(inputs: &PauseInputs) -> Result<Process, SpecError> {
    let mut process = Process::default();
    process.set_user(process::user(inputs.user));
    process.set_args(Some(vec![inputs.binary.to_owned()]));
    process.set_env(Some(Vec::new()));
    process.set_cwd("/".into());
    process.set_capabilities(Some(process::oci_caps(ProcessCaps::default())));
    process.set_rlimits(None);
    let label = Some(inputs.selinux_label.to_owned());
    process.set_selinux_label(label.filter(|label| !label.is_empty()));
    process.set_no_new_privileges(Some(true));
    process.set_oom_score_adj(Some(process::oom_score_adj(OOM_SCORE_ADJ, inputs.host)?));
    Ok(process)
}

fn cpu(inputs: &PauseInputs) -> LinuxCpu {
    let given = inputs.cpu;
    let number = |value: u64, default: Option<u64>| Some(value).filter(|it| *it != 0).or(default);
    let mut cpus = [given.cpuset.as_str(), inputs.cpuset_cpus].into_iter();
    let mut cpu = LinuxCpu::default();
    cpu.set_shares(number(given.cpushares, Some(CPU_SHARES)));
    cpu.set_period(number(given.cpuperiod, None));
    cpu.set_quota(Some(given.cpuquota).filter(|quota| *quota != 0));
    cpu.set_cpus(cpus.find(|cpus| !cpus.is_empty()).map(str::to_owned));
    cpu
}

fn linux(inputs: &PauseInputs) -> Linux {
    let mut kinds: Vec<_> = [LinuxNamespaceType::Mount, LinuxNamespaceType::Pid]
        .map(|kind| namespaces::namespace(kind, None))
        .into();
    kinds.extend(namespaces::shared(inputs.pod));
    if inputs.host.cgroup_v2 {
        kinds.push(namespaces::namespace(LinuxNamespaceType::Cgroup, None));
    }
    let mut resources = LinuxResources::default();
    resources.set_cpu(Some(cpu(inputs)));
    resources.set_devices(Some(vec![devices::rule(false, None, "rwm")]));
    let mut linux = Linux::default();
    linux.set_namespaces(Some(kinds));
    super::userns(&mut linux, inputs.pod);
    linux.set_resources(Some(resources));
    linux.set_cgroups_path(Some(inputs.cgroups_path.into()));
    linux.set_masked_paths(Some(paths::DEFAULT_MASKED.map(str::to_owned).into()));
    linux.set_readonly_paths(Some(paths::DEFAULT_READONLY.map(str::to_owned).into()));
    linux
}
