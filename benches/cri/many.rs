//! A node full of pods: memory, a kubelet's round of questions, and a kill of the daemon.

use std::time::Instant;

use cricket_harness::cri::{ListContainerStatsRequest, ListPodSandboxStatsRequest};
use cricket_harness::memory;

use crate::table::{Samples, Table};
use crate::target::{Target, mb};

/// Rounds of questions: the kernel counts a process's time in steps of 10 ms.
const ROUNDS: u32 = 40;

/// Starts `count` pods, measures, ends them.
pub async fn measure(target: &mut Target, image: &str, count: usize, table: &mut Table) {
    let mut pods = Vec::new();
    for number in 0..count {
        pods.push(target.run(&format!("many{number}"), image).await);
    }
    let daemon = memory::of(target.pid()).unwrap_or_default();
    table.add(&format!("daemon with {count} pods, PSS"), mb(daemon.pss));
    let ids: Vec<_> = pods
        .iter()
        .flat_map(|(pod, container)| [pod.clone(), container.clone()])
        .collect();
    let helpers = target.helpers(&ids);
    let sum: u64 = helpers
        .iter()
        .filter_map(|pid| memory::of(*pid))
        .map(|one| one.pss)
        .sum();
    let each = format!("{} ({} processes)", mb(sum / count as u64), helpers.len());
    table.add("helpers a pod, PSS", each);
    relist(target, table).await;
    if let Some(node) = &mut target.node {
        node.daemon.kill();
        let begun = Instant::now();
        node.daemon.launch();
        node.reconnect().await;
        let listed = node.cri.containers().await.unwrap().len();
        assert_eq!(listed, count, "all containers are listed after the kill");
        let ms = begun.elapsed().as_secs_f64() * 1e3;
        target.cri = node.cri.clone();
        table.add(
            &format!("kill -9 with {count} pods, all listed"),
            format!("{ms:.0} ms"),
        );
    }
    for (pod, container) in pods {
        target.end(&pod, &container).await;
    }
}

/// What a kubelet asks in one round: both lists, every status, usage of all.
async fn relist(target: &Target, table: &mut Table) {
    let [mut whole, mut pods, mut containers]: [Samples; 3] = Default::default();
    let [mut stats, mut pod_stats]: [Samples; 2] = Default::default();
    let cpu = memory::cpu_seconds(target.pid()).unwrap();
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        let listed = target.cri.pods().await.unwrap();
        pods.since(begun);
        for pod in listed {
            target.cri.pod(&pod.id).await.unwrap();
        }
        let middle = Instant::now();
        let listed = target.cri.containers().await.unwrap();
        containers.since(middle);
        for container in listed {
            target.cri.container(&container.id).await.unwrap();
        }
        let middle = Instant::now();
        let request = ListContainerStatsRequest::default();
        target.cri.list_container_stats(request).await.unwrap();
        stats.since(middle);
        let middle = Instant::now();
        let request = ListPodSandboxStatsRequest::default();
        target.cri.list_pod_sandbox_stats(request).await.unwrap();
        pod_stats.since(middle);
        whole.since(begun);
    }
    let cpu = (memory::cpu_seconds(target.pid()).unwrap() - cpu) * 1e3 / f64::from(ROUNDS);
    let figure = format!("{:.1} ms (CPU {cpu:.1} ms)", whole.percentile(50));
    table.add("relist round", figure);
    table.add("of it ListPodSandbox", pods.fine_spread());
    table.add("of it ListContainers", containers.fine_spread());
    table.add("of it ListContainerStats", stats.fine_spread());
    table.add("of it ListPodSandboxStats", pod_stats.fine_spread());
}
