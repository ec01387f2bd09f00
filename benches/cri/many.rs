//! A node full of pods: memory, a kubelet's round of questions, and a kill of the daemon.

use std::time::Instant;

use cricket_harness::cri::ListContainerStatsRequest;
use cricket_harness::memory;

use crate::table::{Samples, Table};
use crate::target::{Target, mb};

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
    let (mut whole, mut stats) = (Samples::default(), Samples::default());
    let rounds = 10;
    let cpu = memory::cpu_seconds(target.pid()).unwrap();
    for _ in 0..rounds {
        let begun = Instant::now();
        for pod in target.cri.pods().await.unwrap() {
            target.cri.pod(&pod.id).await.unwrap();
        }
        for container in target.cri.containers().await.unwrap() {
            target.cri.container(&container.id).await.unwrap();
        }
        let middle = Instant::now();
        target
            .cri
            .list_container_stats(ListContainerStatsRequest::default())
            .await
            .unwrap();
        stats.since(middle);
        whole.since(begun);
    }
    let cpu = (memory::cpu_seconds(target.pid()).unwrap() - cpu) * 1e3 / f64::from(rounds);
    let figure = format!("{:.1} ms (CPU {cpu:.0} ms)", whole.percentile(50));
    table.add("relist round", figure);
    table.add("of it ListContainerStats", stats.spread());
}
