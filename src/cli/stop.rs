//! `cricket stop --all`: ends every container, for a node that goes down.
//!
//! Static pods are the node's control plane, so they are the last: a workload that ends in good
//! order may still write to the API. That a pod is static, and how long its containers may take,
//! is in the annotations that the kubelet gives to pods and containers.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use cricket_proto::cri::runtime_service_client::RuntimeServiceClient;
use cricket_proto::cri::{
    Container, ContainerFilter, ContainerState, ContainerStateValue, ListContainersRequest,
    ListPodSandboxRequest, PodSandbox, StopContainerRequest,
};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::Instant;
use tonic::transport::Channel;

use super::client::connect;
use super::{CliError, converse, exit, load_config, print};
use crate::spec::GRACE;

/// Bytes of an answer: a hundred thousand containers.
const MAX_ANSWER_BYTES: usize = 64 << 20;
/// From where the kubelet has a pod: a file or a URL makes it static.
const SOURCE: &str = "kubernetes.io/config.source";
/// That of a pod whose maker gave none: Kubernetes' default.
const DEFAULT_GRACE: Duration = Duration::from_secs(30);
/// The part of the time that is kept for static pods, of all.
const FOR_STATIC: u32 = 4;
/// Longer than this a killed container does not take to be gone.
const AFTER_KILL: Duration = Duration::from_secs(5);

type Client = RuntimeServiceClient<Channel>;

pub(super) fn command() -> Command {
    Command::new("stop")
        .about("Stop the containers of all pods, static pods last, for a node that goes down")
        .long_about(
            "Stops the containers of all pods in good order: each gets its stop signal and its \
             pod's grace period, and is killed when that is over. Static pods, the control plane, \
             are stopped when the others have ended. cricket-shutdown.service does this when the \
             machine goes down, while the network is still up. A kubelet that runs starts them \
             again: stop it first.",
        )
        .arg(
            Arg::new("all")
                .long("all")
                .action(ArgAction::SetTrue)
                .required(true)
                .help("The containers of all pods; there is no other choice, and no default"),
        )
        .arg(
            Arg::new("timeout")
                .long("timeout")
                .value_name("SECONDS")
                .value_parser(value_parser!(u32).range(1..=86_400))
                .default_value("80")
                .help("Kill what has not ended then, whatever its pod's grace period"),
        )
}

pub(super) fn run(matches: &ArgMatches, own: &ArgMatches) -> Result<ExitCode, CliError> {
    let socket = load_config(matches)?.config.api.listen;
    let seconds = own.get_one::<u32>("timeout").copied().unwrap_or(80);
    converse(stop_all(&socket, Duration::from_secs(seconds.into())))
}

async fn stop_all(socket: &Path, limit: Duration) -> Result<ExitCode, CliError> {
    let client = RuntimeServiceClient::new(connect(socket).await?);
    let mut client = client.max_decoding_message_size(MAX_ANSWER_BYTES);
    let begun = Instant::now();
    let mut stopped = 0;
    let mut failed = Vec::new();
    for (wave, share) in [
        (Wave::Workloads, limit - limit / FOR_STATIC),
        (Wave::Static, limit),
    ] {
        let members = wave.members(&list(&mut client).await?);
        let ends = begun + share;
        let mut stops: FuturesUnordered<_> = members
            .into_iter()
            .map(|one| stop(client.clone(), one, ends))
            .collect();
        while let Some(ended) = stops.next().await {
            match ended {
                Ok(()) => stopped += 1,
                Err(error) => failed.push(error),
            }
        }
    }
    let text = format!(
        "{stopped} containers stopped in {:.1} s\n",
        begun.elapsed().as_secs_f64()
    );
    print(text.as_bytes())?;
    let mut code = ExitCode::SUCCESS;
    for error in &failed {
        code = exit::report(error);
    }
    Ok(code)
}

/// What is stopped together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wave {
    Workloads,
    Static,
}

/// A container that runs.
#[derive(Debug, PartialEq, Eq)]
struct Running {
    id: String,
    name: String,
    grace: Duration,
}

impl Wave {
    fn members(self, (pods, containers): &(Vec<PodSandbox>, Vec<Container>)) -> Vec<Running> {
        let is_static = |container: &Container| {
            pods.iter().any(|pod| {
                pod.id == container.pod_sandbox_id
                    && pod
                        .annotations
                        .get(SOURCE)
                        .is_some_and(|from| from != "api")
            })
        };
        let ours = containers
            .iter()
            .filter(|one| is_static(one) == (self == Wave::Static));
        ours.map(Running::of).collect()
    }
}

impl Running {
    fn of(container: &Container) -> Running {
        let seconds = container.annotations.get(GRACE);
        let seconds = seconds.and_then(|text| text.parse().ok());
        let name = container.metadata.as_ref();
        Running {
            id: container.id.clone(),
            name: name.map(|known| known.name.clone()).unwrap_or_default(),
            grace: seconds.map_or(DEFAULT_GRACE, Duration::from_secs),
        }
    }
}

/// All pods, and the containers that run.
async fn list(client: &mut Client) -> Result<(Vec<PodSandbox>, Vec<Container>), CliError> {
    let refused = |what: &str| {
        let what = what.to_owned();
        move |status: tonic::Status| CliError::Refused {
            what,
            message: status.message().to_owned(),
        }
    };
    let pods = client.list_pod_sandbox(ListPodSandboxRequest { filter: None });
    let pods = pods.await.map_err(refused("listing pods"))?.into_inner();
    let state = ContainerStateValue {
        state: ContainerState::ContainerRunning.into(),
    };
    let filter = ContainerFilter {
        state: Some(state),
        ..Default::default()
    };
    let filter = Some(filter);
    let running = client.list_containers(ListContainersRequest { filter });
    let running = running.await.map_err(refused("listing containers"))?;
    Ok((pods.items, running.into_inner().containers))
}

/// Stops one, with its own grace period as far as there is time until `ends`.
async fn stop(mut client: Client, one: Running, ends: Instant) -> Result<(), CliError> {
    let left = ends.saturating_duration_since(Instant::now());
    let grace = one.grace.min(left);
    let request = StopContainerRequest {
        container_id: one.id.clone(),
        timeout: i64::try_from(grace.as_secs()).unwrap_or(i64::MAX),
    };
    let stopping = client.stop_container(request);
    let message = match tokio::time::timeout(grace + AFTER_KILL, stopping).await {
        Ok(Ok(_)) => return Ok(()),
        Ok(Err(status)) => status.message().to_owned(),
        Err(_) => format!("it runs still, {AFTER_KILL:?} after it was to be killed"),
    };
    let what = format!("stopping container {} ({})", one.name, one.id);
    Err(CliError::Refused { what, message })
}

#[cfg(test)]
mod tests {
    use cricket_proto::cri::ContainerMetadata;

    use super::*;

    fn container(name: &str, pod: &str, grace: Option<&str>) -> Container {
        let annotations = grace.map(|text| (GRACE.to_owned(), text.to_owned()));
        let metadata = ContainerMetadata {
            name: name.into(),
            attempt: 0,
        };
        Container {
            id: format!("{name}-id"),
            pod_sandbox_id: pod.into(),
            metadata: Some(metadata),
            annotations: annotations.into_iter().collect(),
            ..Default::default()
        }
    }

    fn pod(id: &str, source: Option<&str>) -> PodSandbox {
        let annotations = source.map(|text| (SOURCE.to_owned(), text.to_owned()));
        PodSandbox {
            id: id.into(),
            annotations: annotations.into_iter().collect(),
            ..Default::default()
        }
    }

    #[test]
    fn pods_that_came_from_files_are_the_second_wave_others_the_first() {
        let pods = [
            pod("web", Some("api")),
            pod("etcd", Some("file")),
            pod("url", Some("http")),
            pod("by-hand", None),
        ];
        let containers = [
            container("etcd", "etcd", Some("30")),
            container("nginx", "web", Some("5")),
            container("url", "url", None),
            container("hand", "by-hand", Some("long")),
            container("orphan", "gone", None),
        ];
        let node = (pods.to_vec(), containers.to_vec());
        let names = |wave: Wave| -> Vec<(String, u64)> {
            let members = wave.members(&node).into_iter();
            members.map(|one| (one.name, one.grace.as_secs())).collect()
        };
        let row = |name: &str, grace| (name.to_owned(), grace);
        assert_eq!(
            names(Wave::Workloads),
            [row("nginx", 5), row("hand", 30), row("orphan", 30)]
        );
        assert_eq!(names(Wave::Static), [row("etcd", 30), row("url", 30)]);
    }

    #[test]
    fn without_all_nothing_is_stopped() {
        let parse = |words: &[&str]| command().try_get_matches_from(words).map(drop);
        assert!(parse(&["stop"]).is_err());
        assert!(parse(&["stop", "--all"]).is_ok());
        assert!(parse(&["stop", "--all", "--timeout", "0"]).is_err());
    }
}
