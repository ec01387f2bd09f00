//! Kills that no fault point chooses: at any moment of a pod's life, and while containers end.

use std::fs;
use std::time::{Duration, SystemTime};

use cricket_harness::cri::*;
use cricket_harness::faults::{Row, tries};
use cricket_harness::{Client, Node, requests};

use super::CRICKET;
use super::world::{World, pod};

/// About as long as a pod's life in the test below.
const LIFE_MS: u64 = 700;

/// A pod's whole life, as far as the daemon lives with it: any step may fail.
async fn live(cri: Client, config: PodSandboxConfig, container: ContainerConfig) -> Option<()> {
    let pod = cri.run_pod(&config).await.ok()?;
    let id = Box::pin(cri.create(&pod, &container, &config)).await.ok()?;
    cri.start(&id).await.ok()?;
    cri.exec(&id, &["true"], 10).await.ok()?;
    cri.stop(&id, 0).await.ok()?;
    cri.remove(&id).await.ok()?;
    cri.remove_pod(&pod).await.ok()
}

#[tokio::test]
async fn a_kill_at_any_moment_of_a_pods_life() {
    let mut row = Row::new("kill -9 at a random moment of a pod's life");
    let mut world = World::start().await;
    let seed = SystemTime::UNIX_EPOCH.elapsed().unwrap().subsec_nanos();
    let mut random = u64::from(seed);
    for round in 0..tries(4, 150) {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let moment = (random >> 33) % LIFE_MS;
        let config = pod(&world.node, &format!("life{round}"), round % 2 == 0);
        let container = requests::container("main", &world.image, &["sleep", "1000"]);
        let life = tokio::spawn(live(world.node.cri.clone(), config.clone(), container));
        // Where exactly it strikes does not matter.
        tokio::time::sleep(Duration::from_millis(moment)).await;
        world.node.daemon.kill();
        life.await.unwrap();
        world.revive().await;
        row.tried();
        let what = |lost: String| format!("after {moment} ms: {lost}");
        row.lost(world.bystander_is_well(false).await.map_err(what));
        let cri = &world.node.cri;
        for pod in cri.pods().await.unwrap() {
            if pod.metadata == config.metadata {
                let removed = cri.remove_pod(&pod.id).await;
                row.lost(removed.map_err(|error| what(format!("cannot be removed: {error}"))));
            }
        }
        match cri.run_pod(&config).await {
            Ok(again) => cri.remove_pod(&again).await.unwrap(),
            Err(error) => row.lost(Err(what(format!("the name stays taken: {error}")))),
        }
        let left = world.left_behind().await.into_iter();
        row.left(left.map(what).collect());
    }
    row.lost(world.bystander_is_well(true).await);
    world.finish().await;
    row.end();
}

#[tokio::test]
async fn what_ends_while_the_daemon_is_away_is_told_as_it_was() {
    let mut row = Row::new("kill -9, then containers end or are killed for want of memory");
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let shared = node.dir().join("shared");
    fs::create_dir(&shared).unwrap();
    let wait = "until [ -e /shared/go ]; do sleep 0.02; done";
    for round in 0..tries(1, 20) {
        let config = node.pod_config(&format!("away{round}"));
        let pod = node.cri.run_pod(&config).await.unwrap();
        let mut ids = Vec::new();
        for (name, end) in [
            ("exits", "echo last words; exit 5"),
            ("oom", "exec tail /dev/zero"),
        ] {
            let script = format!("{wait}; {end}");
            let mut container = requests::container(name, &image, &["sh", "-c", &script]);
            container.mounts = vec![requests::mount(&shared, "/shared", false)];
            requests::resources(&mut container).memory_limit_in_bytes = 24 << 20;
            ids.push(node.run_in(&pod, &config, &container).await);
        }
        row.tried();
        node.daemon.kill();
        fs::write(shared.join("go"), "").unwrap();
        node.until("both have ended, their monitors too", || {
            ids.iter().all(|id| node.processes(id).is_empty())
        })
        .await;
        node.daemon.launch();
        node.reconnect().await;
        for (id, wanted) in ids.iter().zip([(5, "Error"), (137, "OOMKilled")]) {
            let status = node.cri.container(id).await.unwrap();
            let facts = (status.exit_code, status.reason.as_str());
            let in_order = 0 < status.started_at && status.started_at <= status.finished_at;
            row.lost(match facts == wanted && in_order {
                true => Ok(()),
                false => Err(format!("{wanted:?} is told as {status:?}")),
            });
        }
        let records = node.log_records(&node.log_file(&config, "exits"));
        row.lost(match records.first() {
            Some((_, _, text)) if text == "last words" => Ok(()),
            other => Err(format!("the log is {other:?}")),
        });
        fs::remove_file(shared.join("go")).unwrap();
        node.cri.remove_pod(&pod).await.unwrap();
    }
    row.left(node.left_behind());
    node.finish().await;
    row.end();
}
