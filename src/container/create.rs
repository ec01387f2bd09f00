//! Create: from a configuration to a container whose init waits for start.

use std::fs;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::inherited::{inherited, stop_signal};
use super::own_files;
use super::record::{Init, Record, RunsAs};
use super::security::ToLabel;
use super::sources::{self, io_error};
use super::volumes;
use super::{Config, ContainerError, Containers, Phase, Pod};
use crate::cdi;
use crate::runtime::{Handler, Monitor, NewContainer, Watch};
use crate::security::seccomp::Profile;
use crate::security::users::{self, Accounts, User};
use crate::spec::config::{IdMapping, NamespaceMode};
use crate::spec::inputs::{Image, Inputs, MountSource, SeccompProfiles};
use crate::spec::{self};
use crate::state::{ContainerName, Happening, Id, Stage, Versioned};
use crate::storage::{ImageRecord, RootIds, RootOptions};
use crate::sys::user_namespace::Range;
use crate::sys::{blocking, clock, fault, pidfd};

/// Name of the OCI spec in the bundle.
pub(super) const CONFIG: &str = "config.json";

impl Containers {
    /// Creates a container in `pod` and returns its id. The same call again, while the first runs
    /// or by a client that did not wait for its answer, gets the same container.
    ///
    /// # Errors
    /// When the configuration cannot be, the image is not there, or a step does not work; nothing
    /// is left of the container then.
    pub async fn create(
        self: &Arc<Self>,
        pod: Pod,
        config: Config,
    ) -> Result<Id, Arc<ContainerError>> {
        let name = ContainerName {
            name: config.name.clone(),
            attempt: config.attempt,
            pod: pod.name.clone(),
        };
        let (this, key) = (Arc::clone(self), name.clone());
        self.creations
            .run(key, |stage| async move {
                Box::pin(this.create_one(pod, name, config, &stage)).await
            })
            .await
    }

    async fn create_one(
        self: &Arc<Self>,
        mut pod: Pod,
        name: ContainerName,
        mut config: Config,
        stage: &Stage,
    ) -> Result<Id, ContainerError> {
        if let Some(existing) = self.table.named(&name) {
            // One that is being removed is as good as gone.
            self.removals.ended(&existing.record().id).await;
        }
        if let Some(existing) = self.table.named(&name) {
            let record = existing.record();
            return match record.phase {
                Phase::Making | Phase::Created => Ok(record.id.clone()),
                Phase::Running { .. } | Phase::Exited(_) => Err(ContainerError::Exists {
                    name,
                    id: record.id.clone(),
                }),
            };
        }
        let registered = self.making.register(&pod.id, &name);
        stage.enter("validate");
        self.heed_annotations(&mut pod, &mut config)?;
        let settings = self.spec_settings(&pod);
        spec::check(&config, &pod.spec, &settings, &self.settings.host)?;
        cdi::requested(&config.cdi_devices, &config.annotations)?;
        stage.enter("find the image and ask the trust policy");
        let image = self.image(&config)?;
        let volumes = self.image_volumes(&config)?;
        let _using = self.use_images(&name, &image, &volumes)?;
        pod.handler = for_platform(pod.handler, &image).await?;
        let by_systemd = self.rooms.cgroups.is_by_systemd(&pod.cgroup_parent)?;
        pod.handler = for_driver(pod.handler, by_systemd);
        self.check_trust(&pod, &config, (&image, &volumes)).await?;
        pod.spec.target_pidns = self.target(&config)?;
        let mut record = self.first_record(&pod, name, config, &image)?;
        record.image_volumes = volumes.iter().map(|found| found.volume.clone()).collect();
        stage.enter("write the record");
        self.records.write(&record.id, &record)?;
        fault::point("container.recorded");
        match self
            .build(
                pod,
                record.clone(),
                (image, volumes),
                (stage, &registered.cancelled),
            )
            .await
        {
            Ok((record, watch)) => {
                let id = record.id.clone();
                let container = self.publish(record, None);
                fault::point("container.published");
                self.announce(&container, Happening::Created);
                self.supervise(container, Some(watch));
                Ok(id)
            }
            Err(error) => {
                stage.enter("undo what was made");
                self.undo_or_list(record, &error.to_string()).await;
                Err(error)
            }
        }
    }

    fn image(&self, config: &Config) -> Result<Arc<ImageRecord>, ContainerError> {
        let wanted = &config.image.image;
        match self.rooms.images.get(wanted)? {
            Some(image) => runnable(image.record, wanted),
            None => Err(ContainerError::NoImage {
                image: wanted.clone(),
            }),
        }
    }

    /// The PID namespace of the container that `namespace_options.target_id` names.
    fn target(&self, config: &Config) -> Result<Option<PathBuf>, ContainerError> {
        let Some(options) = config.security.namespaces.as_ref() else {
            return Ok(None);
        };
        if options.pid != NamespaceMode::Target {
            return Ok(None);
        }
        let target = self.find(&options.target_id)?.record();
        match (target.init, &target.phase) {
            (Some(init), Phase::Running { .. }) => {
                Ok(Some(format!("/proc/{}/ns/pid", init.pid).into()))
            }
            _ => Err(ContainerError::NotRunning {
                id: target.id.clone(),
            }),
        }
    }

    /// What is known of the container before anything is made for it.
    fn first_record(
        &self,
        pod: &Pod,
        name: ContainerName,
        config: Config,
        image: &ImageRecord,
    ) -> Result<Record, ContainerError> {
        let log_path = log_path(&pod.log_directory, &config.log_path)?;
        let image = inherited(image, &config);
        let stop_signal = stop_signal(&config, &image)?;
        let pid_mode = config
            .security
            .namespaces
            .as_ref()
            .map_or(pod.spec.namespaces.pid, |options| options.pid);
        Ok(Record {
            version: Record::VERSION,
            id: Id::random(),
            pod: pod.id.clone(),
            name,
            runtime: pod.handler.program.clone(),
            config,
            image,
            image_volumes: Vec::new(),
            created_at_ns: clock::now_ns(),
            phase: Phase::Making,
            init: None,
            cgroup_parent: pod.cgroup_parent.clone(),
            monitor_cgroup: pod.handler.monitor_cgroup.clone(),
            log_path,
            stop_signal,
            own_pid_namespace: pid_mode == NamespaceMode::Container,
            runs_as: RunsAs::default(),
            frozen: false,
            checkpoint: None,
            half_made: false,
            unknown: Default::default(),
        })
    }

    async fn build(
        self: &Arc<Self>,
        pod: Pod,
        record: Record,
        images: (Arc<ImageRecord>, Vec<volumes::Found>),
        (stage, cancelled): (&Stage, &CancellationToken),
    ) -> Result<(Record, Watch), ContainerError> {
        stage.enter("find mount sources");
        let mount_sources = self.mount_sources(&pod, &record, stage).await?;
        let (this, handler) = (Arc::clone(self), Arc::clone(&pod.handler));
        let stages = stage.clone();
        let bundle =
            blocking(move || this.make_bundle(&pod, record, mount_sources, &images, &stages));
        let (mut record, to_label) = bundle.await?;
        if let Some(volumes) = to_label {
            stage.enter("label its volumes");
            self.label_volumes(volumes, stage).await?;
        }
        stage.enter_for("runtime create", record.runtime.call("create"));
        let bundle = self.rooms.run_dir.container(&record.id);
        let log_path = record
            .log_path
            .as_ref()
            .map_or_else(Default::default, |path| path.to_string_lossy().into_owned());
        let new = NewContainer {
            id: record.id.as_str(),
            bundle: &bundle,
            cgroup_parent: &record.cgroup_parent,
            log_path: &log_path,
            terminal: record.config.tty,
            stdin: record.config.stdin,
            stdin_once: record.config.stdin_once,
            cancelled,
        };
        let (pid, watch) = Monitor::create(&handler, &self.rooms.cgroups, new).await?;
        let start_time = pidfd::start_time(pid)
            .map_err(sources::io_error("look at the first process of", &bundle))?
            .unwrap_or(0);
        record.init = Some(Init { pid, start_time });
        record.phase = Phase::Created;
        stage.enter("write the record");
        self.records.write(&record.id, &record)?;
        fault::point("container.created-recorded");
        Ok((record, watch))
    }

    /// Mounts the root, finds out what the spec needs to know, and writes the spec.
    fn make_bundle(
        &self,
        pod: &Pod,
        mut record: Record,
        mut mount_sources: Vec<MountSource>,
        (image, volumes): &(Arc<ImageRecord>, Vec<volumes::Found>),
        stage: &Stage,
    ) -> Result<(Record, Option<ToLabel>), ContainerError> {
        let config = &record.config;
        stage.enter("find devices and profiles");
        let devices = sources::of_devices(config)?;
        let all_devices =
            config.security.privileged && !pod.handler.privileged_without_host_devices;
        let host_devices = all_devices.then(sources::of_host).transpose()?;
        let host_devices = host_devices.unwrap_or_default();
        let localhost = self.localhost_profile(config)?;
        let given = self.given(pod, config, &record.image)?;

        stage.enter("mount the root filesystem");
        let id = record.id.as_str();
        let options = RootOptions {
            mount_label: given.mount_label(),
            ids: root_ids(&pod.spec),
            ..RootOptions::default()
        };
        let root = self.rooms.store.mount_root(id, &image.layers, &options)?;
        self.mount_image_volumes(&record, volumes, &options, &mut mount_sources)?;
        let declared_volumes = self.declared_volumes(&record, &root, &options)?;
        fault::point("container.volumes-mounted");
        stage.enter("look up the user");
        let (user, accounts) = find_user(&root, config, &record.image)?;
        stage.enter("make its files and label them");
        let bundle = self.rooms.run_dir.container(&record.id);
        let own_files = self.settings.files.make(own_files::For {
            bundle: &bundle,
            root: &root,
            config,
            image: &record.image,
            user: &user,
            accounts: &accounts,
        })?;
        given.label_own(&declared_volumes, &own_files)?;
        let to_label = given.volumes_to_label(pod, config, &mount_sources)?;

        fault::point("container.files-made");
        stage.enter("write the spec");
        let profiles = self.profiles.load();
        let mut settings = self.spec_settings(pod);
        settings.apparmor_default.clone_from(&profiles.apparmor);
        let inputs = Inputs {
            id,
            name: &record.name.to_string(),
            config,
            image: &record.image,
            pod: &pod.spec,
            user: &user,
            root: &root,
            mount_sources: &mount_sources,
            declared_volumes: &declared_volumes,
            devices: &devices,
            host_devices: &host_devices,
            node_devices: &given.devices,
            hooks: &given.hooks,
            cdi: &given.cdi,
            selinux: given.labels.as_ref(),
            own_files: &own_files,
            cgroups_path: &self
                .rooms
                .cgroups
                .container_path(&record.cgroup_parent, id)?,
            seccomp: SeccompProfiles {
                default: profiles.default_seccomp(&pod.handler.program.handler),
                localhost: localhost.as_ref(),
                privileged: profiles.privileged_seccomp.as_deref(),
            },
            log_path: record.log_path.as_deref(),
            created: &rfc3339(record.created_at_ns),
            settings: &settings,
            host: &self.settings.host,
        };
        let spec = spec::container(&inputs)?;
        write_spec(&bundle, &spec)?;
        fault::point("container.spec-written");
        record.runs_as = RunsAs {
            uid: user.uid,
            gid: user.gid,
            groups: user.groups,
        };
        Ok((record, to_label))
    }

    /// What the configuration says, with what it says about the pod's handler and workload.
    fn spec_settings(&self, pod: &Pod) -> spec::inputs::Settings {
        let handler = &pod.handler;
        spec::inputs::Settings {
            container_min_memory: handler.min_memory_bytes,
            privileged_without_host_devices: handler.privileged_without_host_devices,
            recursive_read_only: handler.features.recursive_read_only,
            ..self.settings.spec.clone()
        }
    }

    fn localhost_profile(&self, config: &Config) -> Result<Option<Profile>, ContainerError> {
        let path = spec::localhost_profile(&config.security)?;
        let load = |path| Profile::load(Path::new(path), self.settings.seccomp_target);
        Ok(path.map(load).transpose()?)
    }
}

/// The handler with the program that it has for the image's platform. One that is not there is
/// told before anything is made, which it would have to remove.
async fn for_platform(
    handler: Arc<Handler>,
    image: &ImageRecord,
) -> Result<Arc<Handler>, ContainerError> {
    let config = &image.config;
    let platform = format!("{}/{}", config.os(), config.architecture());
    match handler.platform_paths.get(&platform) {
        Some(path) if *path != handler.program.path => {
            let mut other = Handler::clone(&handler);
            other.program.path.clone_from(path);
            let program = path.clone();
            blocking(move || {
                let facts = fs::metadata(&program);
                facts.map_err(io_error(
                    "find the runtime for the image's platform",
                    &program,
                ))
            })
            .await?;
            Ok(Arc::new(other))
        }
        _ => Ok(handler),
    }
}

/// The handler with a program that uses the cgroup driver of the pod, which may have been made when
/// another one was configured.
fn for_driver(handler: Arc<Handler>, by_systemd: bool) -> Arc<Handler> {
    if handler.program.systemd_cgroup == by_systemd {
        return handler;
    }
    let mut other = Handler::clone(&handler);
    other.program.systemd_cgroup = by_systemd;
    Arc::new(other)
}

/// The log: `path` below the pod's `directory`; none when either is empty.
fn log_path(directory: &str, path: &str) -> Result<Option<PathBuf>, ContainerError> {
    let stays_below = |part| matches!(part, Component::Normal(_) | Component::CurDir);
    if !Path::new(path).components().all(stays_below) || path.contains('\0') {
        return Err(ContainerError::Invalid {
            field: "config.log_path".to_owned(),
            problem: format!(
                "`{}` leads out of the pod's log directory",
                path.escape_debug()
            ),
        });
    }
    let both = !directory.is_empty() && !path.is_empty();
    Ok(both.then(|| Path::new(directory).join(path)))
}

fn runnable(image: Arc<ImageRecord>, wanted: &str) -> Result<Arc<ImageRecord>, ContainerError> {
    match &image.artifact_type {
        None => Ok(image),
        Some(kind) => Err(ContainerError::Invalid {
            field: "config.image".to_owned(),
            problem: format!(
                "`{wanted}` is an artifact ({kind}): it has no program to run; it can be mounted \
                 as an image volume"
            ),
        }),
    }
}

/// Whose the root filesystem is.
fn root_ids(pod: &spec::inputs::Pod) -> Option<RootIds> {
    let range = |ids: IdMapping| Range {
        inside: ids.container_id,
        outside: ids.host_id,
        length: ids.length,
    };
    let ids = pod.userns.clone().zip(pod.namespaces.mappings());
    ids.map(|(userns, ids)| RootIds {
        userns,
        uids: range(ids.uids),
        gids: range(ids.gids),
    })
}

fn find_user(
    root: &Path,
    config: &Config,
    image: &Image,
) -> Result<(User, Accounts), ContainerError> {
    let request = spec::user_request(&config.security, image);
    let directory = fs::File::open(root).map_err(io_error("open the root filesystem", root))?;
    let accounts = Accounts::read(&directory)?;
    Ok((users::lookup(&request, &accounts)?, accounts))
}

fn write_spec(bundle: &Path, spec: &oci_spec::runtime::Spec) -> Result<(), ContainerError> {
    let path = bundle.join(CONFIG);
    let text = serde_json::to_vec(spec).map_err(|error| io_error("write", &path)(error.into()))?;
    fs::write(&path, text).map_err(io_error("write", &path))
}

pub(super) fn rfc3339(ns: i64) -> String {
    jiff::Timestamp::from_nanosecond(ns.into())
        .map(|time| time.to_string())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_below_the_pods_directory_or_refused() {
        let path = |directory, path| log_path(directory, path).map_err(|error| error.to_string());
        assert_eq!(
            path("/logs", "c/0.log").unwrap().unwrap(),
            Path::new("/logs/c/0.log")
        );
        assert_eq!(path("", "c/0.log").unwrap(), None);
        assert_eq!(path("/logs", "").unwrap(), None);
        for bad in ["/etc/passwd", "../other/0.log", "c/../../0.log", "a\0b"] {
            assert!(
                path("/logs", bad).unwrap_err().contains("config.log_path"),
                "{bad}"
            );
        }
    }
}
