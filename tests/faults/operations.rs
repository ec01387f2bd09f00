//! The calls during which the daemon is killed: what each needs beforehand, what must be true after
//! the restart, and the retry.

use std::fs;

use cricket_harness::client::spec;
use cricket_harness::cri::*;
use cricket_harness::image::Compression;
use cricket_harness::layer::Layer;
use cricket_harness::{Client, Image, cgroups, requests};

use super::points::Point;
use super::world::{World, map_ids, pod};

/// A limit that no container of the tests has from the start.
const NEW_LIMIT: i64 = 96 << 20;

/// One call of one operation, and what was prepared for it.
#[derive(Debug, Clone)]
pub struct Call {
    point: Point,
    pod: PodSandboxConfig,
    container: ContainerConfig,
    /// Empty: not made beforehand.
    pod_id: String,
    container_id: String,
    /// The image's name, the id of the image that had it before, and the text of its one file.
    image: String,
    before: String,
    marker: String,
}

impl Call {
    pub async fn prepare(world: &mut World, point: Point, number: usize) -> Call {
        let name = format!("p{number}");
        let shared_pid = point.name != "pod.cgroup-made";
        let mut pod = pod(&world.node, &name, shared_pid);
        // It ignores SIGTERM, so that a stop comes to SIGKILL.
        let script = "trap '' TERM; echo ready; while :; do sleep 0.1; done";
        let mut container = requests::container("main", &world.image, &["sh", "-c", script]);
        container.mounts = vec![Mount {
            container_path: "/image".into(),
            readonly: true,
            image: Some(spec(&world.image)),
            ..Default::default()
        }];
        if world.mapped {
            map_ids(&mut pod, &mut container);
        }
        let mut call = Call {
            point,
            pod,
            container,
            pod_id: String::new(),
            container_id: String::new(),
            image: String::new(),
            before: String::new(),
            marker: format!("image of {name}"),
        };
        match point.operation {
            "PullImage" | "RemoveImage" => call.prepare_image(world).await,
            "RunPodSandbox" => {}
            "CreateContainer" => call.prepare_pod(world).await,
            _ => {
                call.prepare_pod(world).await;
                call.prepare_container(world).await;
            }
        }
        call
    }

    async fn prepare_pod(&mut self, world: &World) {
        self.pod_id = world.node.cri.run_pod(&self.pod).await.unwrap();
    }

    async fn prepare_container(&mut self, world: &World) {
        let node = &world.node;
        let created = node.cri.create(&self.pod_id, &self.container, &self.pod);
        self.container_id = Box::pin(created).await.unwrap();
        let id = &self.container_id;
        if self.point.operation == "StartContainer" {
            return;
        }
        node.cri.start(id).await.unwrap();
        let log = node.log_file(&self.pod, "main");
        let ready = || fs::read_to_string(&log).is_ok_and(|text| text.contains("ready"));
        node.until("the container's trap", ready).await;
        match self.point.operation {
            "RemoveContainer" => node.cri.stop(id, 0).await.unwrap(),
            "ReopenContainerLog" => fs::rename(&log, log.with_extension("old")).unwrap(),
            _ => {}
        }
    }

    /// The tag moves from image to image, and one layer is new each time. Where a record is replaced,
    /// the image is there and comes under another manifest.
    async fn prepare_image(&mut self, world: &mut World) {
        let layer = |text: &str| Layer::new().file("marker", 0o644, text.as_bytes());
        let marked = |compression| {
            Image::builder()
                .layer(layer("below"), compression)
                .layer(layer(&self.marker), compression)
                .build()
        };
        let built = marked(Compression::Gzip);
        let before = match self.point.name {
            "image.manifest-added" => marked(Compression::None),
            _ => Image::builder()
                .layer(
                    layer(&format!("before the {}", self.marker)),
                    Compression::Gzip,
                )
                .build(),
        };
        self.image = world.node.registry().push("moving", "latest", &before);
        world.node.cri.pull(&self.image).await.unwrap();
        // A daemon that is started anew would finish that first, and pass points that are the call's.
        let record = world.node.daemon.root().join("images").join(before.id());
        let record = record.join("image.json");
        let is_durable = || {
            let text = fs::read_to_string(&record).unwrap();
            text.contains("\"durable\":true")
        };
        world.node.until("the image is durable", is_durable).await;
        world.node.registry().push("moving", "latest", &built);
        self.container_id = built.id().to_owned();
        self.before = before.id().to_owned();
        if self.point.operation == "RemoveImage" {
            world.node.cri.pull(&self.image).await.unwrap();
        }
    }

    /// The call in words.
    pub fn what(&self) -> String {
        format!("{} at {}", self.point.operation, self.point.name)
    }

    /// Makes the call.
    pub async fn make(self, cri: Client) -> Result<(), String> {
        let (pod, id) = (&self.pod_id, &self.container_id);
        let made = match self.point.operation {
            "RunPodSandbox" => cri.run_pod(&self.pod).await.map(drop),
            "CreateContainer" => {
                let created = cri.create(pod, &self.container, &self.pod);
                Box::pin(created).await.map(drop)
            }
            "StartContainer" => cri.start(id).await,
            "UpdateContainerResources" => {
                let request = UpdateContainerResourcesRequest {
                    container_id: id.clone(),
                    linux: Some(LinuxContainerResources {
                        memory_limit_in_bytes: NEW_LIMIT,
                        ..Default::default()
                    }),
                    ..Default::default()
                };
                cri.update_container_resources(request).await.map(drop)
            }
            "ReopenContainerLog" => cri.reopen_log(id).await,
            "StopContainer" => cri.stop(id, 1).await,
            "RemoveContainer" => cri.remove(id).await,
            "StopPodSandbox" => cri.stop_pod(pod).await,
            "RemovePodSandbox" => cri.remove_pod(pod).await,
            "PullImage" => cri.pull(&self.image).await.map(drop),
            "RemoveImage" => cri.remove_image(&self.container_id).await,
            other => panic!("no test makes {other}"),
        };
        made.map_err(|error| format!("{}: {error:?}", self.point.operation))
    }

    /// What a half-made thing must never be: listed without being complete, or under two ids.
    pub async fn is_whole_or_gone(&self, world: &World) -> Result<(), String> {
        let cri = &world.node.cri;
        if self.point.operation == "PullImage" {
            // A registry that has gone meanwhile must not matter to who had the image.
            let named = cri.image(&self.image).await;
            let id = named.map_err(|error| error.to_string())?.map(|one| one.id);
            if ![&self.before, &self.container_id].contains(&&id.clone().unwrap_or_default()) {
                return Err(format!("the name is that of {id:?}"));
            }
        }
        let pods = cri.pods().await.map_err(|error| error.to_string())?;
        let name = |pod: &PodSandbox| pod.metadata.clone().unwrap_or_default().name;
        let own = self.pod.metadata.clone().unwrap_or_default().name;
        let mine: Vec<_> = pods.iter().filter(|pod| name(pod) == own).collect();
        if mine.len() > 1 {
            return Err(format!("the pod is listed {} times", mine.len()));
        }
        for pod in &mine {
            let status = cri.pod(&pod.id).await.map_err(|error| error.to_string())?;
            let address = status.network.unwrap_or_default().ip;
            if address.is_empty() {
                return Err("the pod is listed without an address".to_owned());
            }
            if self.point.operation == "RunPodSandbox"
                && pod.state() != PodSandboxState::SandboxReady
            {
                return Err(format!("the pod is listed as {:?}", pod.state()));
            }
        }
        for one in cri.containers().await.map_err(|error| error.to_string())? {
            if mine.iter().any(|pod| pod.id == one.pod_sandbox_id) {
                let status = cri.container(&one.id).await;
                status.map_err(|error| format!("a listed container has no status: {error}"))?;
            }
        }
        Ok(())
    }

    /// Makes the call again and asks for what it promises.
    pub async fn retry(&self, world: &World) -> Result<(), String> {
        let before = self.state(world).await?;
        self.clone().make(world.node.cri.clone()).await?;
        let after = self.state(world).await?;
        let expected = match self.point.operation {
            "RunPodSandbox" => after.starts_with("pod SandboxReady"),
            "CreateContainer" => after == "container ContainerCreated 0 ",
            "StartContainer" => after == "container ContainerRunning 0 ",
            // Not gone: a kubelet asks for the exit code still.
            "StopContainer" => after == "container ContainerExited 137 Error",
            "StopPodSandbox" => after == "pod SandboxNotready",
            "RemoveContainer" | "RemovePodSandbox" | "RemoveImage" => after == "gone",
            "UpdateContainerResources" => after == format!("limit {NEW_LIMIT}"),
            "ReopenContainerLog" => after == "reopened",
            "PullImage" => after == format!("image {}", self.marker),
            _ => false,
        };
        match expected {
            true => Ok(()),
            false => Err(format!(
                "`{before}` after the kill, `{after}` after the retry"
            )),
        }
    }

    /// What the operation is about, as it is now.
    async fn state(&self, world: &World) -> Result<String, String> {
        let cri = &world.node.cri;
        match self.point.operation {
            "RunPodSandbox" | "StopPodSandbox" | "RemovePodSandbox" => {
                let pods = cri.pods().await.map_err(|error| error.to_string())?;
                let mine = pods.iter().find(|pod| pod.metadata == self.pod.metadata);
                Ok(match mine {
                    Some(pod) => format!("pod {:?}", pod.state()),
                    None => "gone".to_owned(),
                })
            }
            "UpdateContainerResources" => {
                let status = self.container(world).await?;
                let linux = status.and_then(|one| one.resources?.linux);
                let told = linux.map_or(0, |linux| linux.memory_limit_in_bytes);
                let kernel = cgroups::memory_limit(&self.container_id);
                Ok(match kernel == Some(told) {
                    true => format!("limit {told}"),
                    false => format!("limit {told} told, {kernel:?} in the kernel"),
                })
            }
            "ReopenContainerLog" => {
                let log = world.node.log_file(&self.pod, "main");
                Ok(if log.exists() { "reopened" } else { "rotated" }.to_owned())
            }
            "PullImage" | "RemoveImage" => self.image(world).await,
            _ => Ok(match self.container(world).await? {
                Some(status) => format!(
                    "container {:?} {} {}",
                    status.state(),
                    status.exit_code,
                    status.reason
                ),
                None => "gone".to_owned(),
            }),
        }
    }

    async fn container(&self, world: &World) -> Result<Option<ContainerStatus>, String> {
        let cri = &world.node.cri;
        let all = cri.containers().await.map_err(|error| error.to_string())?;
        let mine = all.iter().find(|one| one.pod_sandbox_id == self.pod_id);
        let Some(mine) = mine else { return Ok(None) };
        let status = cri.container(&mine.id).await;
        status
            .map(Some)
            .map_err(|error| format!("{}: {error}", mine.id))
    }

    /// The image as it is listed, and its content as it is on the disk.
    async fn image(&self, world: &World) -> Result<String, String> {
        let cri = &world.node.cri;
        check(world)?;
        let found = cri.image(&self.container_id).await;
        if found.map_err(|error| error.to_string())?.is_none() {
            return Ok("gone".to_owned());
        }
        let layers = fs::read_dir(world.node.daemon.root().join("layers")).into_iter();
        let markers: Vec<String> = layers
            .flatten()
            .flatten()
            .filter_map(|layer| fs::read_to_string(layer.path().join("diff/marker")).ok())
            .collect();
        match ["below", &self.marker]
            .iter()
            .all(|one| markers.iter().any(|it| it == one))
        {
            true => Ok(format!("image {}", self.marker)),
            false => Err(format!("the image is listed, its layers hold {markers:?}")),
        }
    }

    /// Removes all that the call and its preparation made.
    pub async fn remove(&self, world: &World) {
        let cri = &world.node.cri;
        for pod in cri.pods().await.unwrap() {
            if pod.metadata == self.pod.metadata {
                cri.remove_pod(&pod.id)
                    .await
                    .expect("a pod that is listed can be removed");
            }
        }
        let images = cri.images().await.unwrap();
        for image in images
            .iter()
            .filter(|image| !image.repo_tags.contains(&world.image))
        {
            cri.remove_image(&image.id)
                .await
                .expect("an image can be removed");
        }
    }
}

/// That `cricket check` finds nothing.
fn check(world: &World) -> Result<(), String> {
    let checked = world.node.daemon.command().arg("check").output();
    let checked = checked.map_err(|error| error.to_string())?;
    match checked.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&checked.stdout).into_owned()),
    }
}
