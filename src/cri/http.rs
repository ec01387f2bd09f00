//! HTTP/1 on the CRI socket, read-only: what cAdvisor and `crio status` ask CRI-O for.
//!
//! ```text
//! GET /info             where images are stored, and the cgroup driver
//! GET /containers/{id}  a container, or a pod as cAdvisor's container "POD"
//! GET /config           the effective configuration, TOML
//! ```
//!
//! Names and forms of the fields are CRI-O's (its `pkg/types`).

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use serde::Serialize;

use super::shown::Shown;
use crate::container;
use crate::sandbox::{self, Sandboxes};
use crate::state::Id;
use crate::sys::{ShuttingDown, blocking};

/// The label by which cAdvisor knows which cgroup has a pod's network, and its value.
const CONTAINER_LABEL: (&str, &str) = ("io.kubernetes.container.name", "POD");
/// How many ids there are in a user namespace that maps all of them.
const ALL_IDS: u64 = 4_294_967_295;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const TOML: HeaderValue = HeaderValue::from_static("application/toml");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// What is answered over HTTP/1.
#[derive(Debug)]
pub struct HttpApi {
    /// Pods, and through them containers.
    pub sandboxes: Arc<Sandboxes>,
    /// Where images and containers are stored.
    pub storage_root: PathBuf,
    /// Where images are stored, if elsewhere; empty otherwise.
    pub storage_image: PathBuf,
    /// A directory that ends in `/merged`, beside which there is an empty `diff`: the root of pods,
    /// which have none.
    pub pod_root: PathBuf,
    /// Whether cgroups are made through systemd.
    pub systemd_cgroup: bool,
    /// The configuration in effect.
    pub shown: Arc<Shown>,
}

/// `GET /info`.
#[derive(Debug, Serialize)]
struct Info<'a> {
    storage_driver: &'static str,
    storage_image: &'a str,
    storage_root: &'a str,
    cgroup_driver: &'static str,
    default_id_mappings: IdMappings,
}

#[derive(Debug, Serialize)]
struct IdMappings {
    uids: [IdMapping; 1],
    gids: [IdMapping; 1],
}

#[derive(Debug, Clone, Copy, Serialize)]
struct IdMapping {
    container_id: u64,
    host_id: u64,
    size: u64,
}

/// `GET /containers/{id}`.
#[derive(Debug, Serialize)]
struct Described {
    name: String,
    pid: i32,
    image: String,
    image_ref: String,
    created_time: i64,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    crio_annotations: serde_json::Value,
    log_path: String,
    root: String,
    sandbox: String,
    ip_addresses: Vec<String>,
    host_network: bool,
}

impl HttpApi {
    /// Answers a request. A body is not looked at.
    pub(super) async fn answer<B>(
        self: Arc<Self>,
        request: Request<B>,
    ) -> Result<Response<Full<Bytes>>, Infallible> {
        let path = request.uri().path();
        let id = path.strip_prefix("/containers/");
        let known = id.is_some_and(|id| !id.is_empty() && !id.contains('/'))
            || matches!(path, "/info" | "/config");
        if !known {
            return Ok(text(StatusCode::NOT_FOUND, "404 page not found\n"));
        }
        if request.method() != Method::GET {
            let mut refused = text(
                StatusCode::METHOD_NOT_ALLOWED,
                "only GET is answered here\n",
            );
            let allowed = HeaderValue::from_static("GET");
            refused.headers_mut().insert(ALLOW, allowed);
            return Ok(refused);
        }
        Ok(match id {
            Some(id) => self.container(id.to_owned()).await,
            None if path == "/info" => json(&self.info()),
            None => response(StatusCode::OK, TOML, self.shown.texts().toml.clone()),
        })
    }

    fn info(&self) -> Info<'_> {
        let all = IdMapping {
            container_id: 0,
            host_id: 0,
            size: ALL_IDS,
        };
        Info {
            storage_driver: "overlay",
            storage_image: self.storage_image.to_str().unwrap_or_default(),
            storage_root: self.storage_root.to_str().unwrap_or_default(),
            cgroup_driver: if self.systemd_cgroup {
                "systemd"
            } else {
                "cgroupfs"
            },
            default_id_mappings: IdMappings {
                uids: [all],
                gids: [all],
            },
        }
    }

    async fn container(self: Arc<Self>, id: String) -> Response<Full<Bytes>> {
        // Reads the bundle.
        let described = blocking(move || Ok::<_, ShuttingDown>((self.describe(&id), id))).await;
        match described {
            Ok((Some(described), _)) => json(&described),
            Ok((None, id)) => {
                let message = format!("can't find the container with id {id}\n");
                text(StatusCode::NOT_FOUND, &message)
            }
            Err(error) => text(StatusCode::SERVICE_UNAVAILABLE, &format!("{error}\n")),
        }
    }

    /// The container, or else the pod, of an id or a unique prefix of one.
    fn describe(&self, id: &str) -> Option<Described> {
        let containers = self.sandboxes.containers();
        if let Ok(container) = containers.find(id) {
            return Some(self.describe_container(&container.record()));
        }
        let record = self.sandboxes.find(id).ok()?.record();
        Some(self.describe_pod(&record))
    }

    fn describe_container(&self, record: &container::Record) -> Described {
        let containers = self.sandboxes.containers();
        let pod = self.sandboxes.find(record.pod.as_str()).ok();
        let pod = pod.map(|pod| pod.record());
        let log_path = record.log_path.as_ref().map(|path| path.to_string_lossy());
        let mut facts = containers.describe(record);
        Described {
            name: record.name.to_string(),
            pid: live_pid(record),
            image: record.image.name.clone(),
            image_ref: record.image.reference.clone(),
            created_time: record.created_at_ns,
            labels: record.config.labels.clone(),
            annotations: record.config.annotations.clone(),
            crio_annotations: facts["runtimeSpec"]["annotations"].take(),
            log_path: log_path.unwrap_or_default().into_owned(),
            root: containers.root_path(record).to_string_lossy().into_owned(),
            sandbox: record.pod.to_string(),
            ip_addresses: pod.as_deref().map(addresses).unwrap_or_default(),
            host_network: pod.is_some_and(|pod| !pod.own_network()),
        }
    }

    fn describe_pod(&self, record: &sandbox::Record) -> Described {
        let name = record.config.name.to_string();
        let pause_image = self.shown.texts().pause_image.clone();
        let mut labels = record.config.labels.clone();
        labels.insert(CONTAINER_LABEL.0.to_owned(), CONTAINER_LABEL.1.to_owned());
        Described {
            name: name.replacen("k8s_", "k8s_POD_", 1),
            pid: self.pid_in(&record.id, record.pause.map(|pause| pause.pid)),
            image: pause_image.clone(),
            image_ref: pause_image,
            created_time: record.created_at_ns,
            labels,
            annotations: record.config.annotations.clone(),
            crio_annotations: serde_json::json!({}),
            log_path: String::new(),
            root: self.pod_root.to_string_lossy().into_owned(),
            sandbox: record.id.to_string(),
            ip_addresses: addresses(record),
            host_network: !record.own_network(),
        }
    }

    /// A process in the pod's network: its pause process, or else that of any container. cAdvisor
    /// reads the pod's traffic there.
    fn pid_in(&self, pod: &Id, pause: Option<i32>) -> i32 {
        let containers = || self.sandboxes.containers().of_pod(pod).into_iter();
        pause
            .or_else(|| {
                containers()
                    .map(|container| live_pid(&container.record()))
                    .find(|pid| *pid != 0)
            })
            .unwrap_or(0)
    }
}

/// The pid of a container's first process; 0 when it has ended.
fn live_pid(record: &container::Record) -> i32 {
    let init = record.init.filter(|_| record.is_alive());
    init.map_or(0, |init| init.pid)
}

fn addresses(record: &sandbox::Record) -> Vec<String> {
    record.ips.iter().map(ToString::to_string).collect()
}

fn json(value: &impl Serialize) -> Response<Full<Bytes>> {
    match serde_json::to_vec(value) {
        Ok(body) => response(StatusCode::OK, JSON, body.into()),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, &format!("{error}\n")),
    }
}

fn text(status: StatusCode, message: &str) -> Response<Full<Bytes>> {
    response(status, TEXT, Bytes::copy_from_slice(message.as_bytes()))
}

fn response(status: StatusCode, kind: HeaderValue, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
