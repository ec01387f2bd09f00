//! Pulls, removals, pods and their removal, without end, until the power is cut. Two of each go on
//! at once. What fails because the other has taken the image away is part of it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cricket_harness::{Client, requests};
use cricket_node::write_log::Chance;

use crate::images::{self, COUNT};
use crate::ledger::Ledger;
use crate::{Outcome, daemon, scopes};

/// Pods that one of the two keeps at a time.
const PODS: usize = 3;

/// Prints a line for each thing done; the outside cuts by them.
pub async fn run(data: &str, seed: &str) -> Outcome {
    let seed: u64 = seed.parse().map_err(|error| format!("{seed}: {error}"))?;
    let ledger = Arc::new(Ledger::open(data)?);
    let cri = daemon::connect().await?;
    println!("churn: begun");
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..2 {
        let chance = Chance::new(seed * 4 + number);
        tasks.spawn(pull_and_remove(
            cri.clone(),
            Arc::clone(&ledger),
            data.to_owned(),
            (chance, usize::try_from(number).unwrap_or_default()),
        ));
        let chance = Chance::new(seed * 4 + 2 + number);
        tasks.spawn(run_pods(cri.clone(), data.to_owned(), (chance, number)));
    }
    // None of them ends but by a failure.
    let ended = tasks.join_next().await;
    match ended {
        Some(Ok(Err(error))) => Err(error),
        other => Err(format!("churn ended: {other:?}")),
    }
}

/// Each of the two has its own half of the images, so that the ledger has one author for each.
async fn pull_and_remove(
    cri: Client,
    ledger: Arc<Ledger>,
    data: String,
    (mut chance, half): (Chance, usize),
) -> Outcome {
    loop {
        let name = images::name(chance.below(COUNT / 2) * 2 + half);
        if chance.below(3) == 0 {
            ledger.remove(&name)?;
            match cri.remove_image(&name).await {
                Ok(()) => println!("removed {name}"),
                Err(error) => println!("not removed {name}: {}", error.message()),
            }
            continue;
        }
        let id = cri.pull(&name).await;
        let id = id.map_err(|error| format!("pull {name}: {error:?}"))?;
        println!("pulled {name}");
        if chance.below(2) == 0 {
            durable(&data, &id).await?;
            ledger.add(&name)?;
            println!("durable {name}");
        }
    }
}

/// Waits until cricket says that the image is durable and the disk has those words.
async fn durable(data: &str, id: &str) -> Outcome {
    let file = daemon::store(data)
        .join("images")
        .join(id)
        .join("image.json");
    for _ in 0..1200 {
        let text = std::fs::read_to_string(&file);
        let text = text.map_err(|error| format!("{}: {error}", file.display()))?;
        if text.contains("\"durable\":true") {
            let dir = file.parent().unwrap_or(Path::new("/"));
            for path in [file.as_path(), dir] {
                let synced = std::fs::File::open(path).and_then(|open| open.sync_all());
                synced.map_err(|error| format!("{}: {error}", path.display()))?;
            }
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Err(format!("{}: not durable within a minute", file.display()))
}

/// Pods that write into their roots and leave again, half of them without a stop.
async fn run_pods(cri: Client, data: String, (mut chance, half): (Chance, u64)) -> Outcome {
    let logs = Path::new(&data).join("log");
    let mut running: Vec<String> = Vec::new();
    for number in 0_u64.. {
        if running.len() == PODS || (!running.is_empty() && chance.below(3) == 0) {
            let pod = running.swap_remove(chance.below(running.len()));
            let gone = async {
                if chance.below(2) == 0 {
                    cri.stop_pod(&pod).await?;
                }
                cri.remove_pod(&pod).await
            };
            gone.await
                .map_err(|error| format!("remove pod {pod}: {error:?}"))?;
            println!("pod gone {pod}");
            continue;
        }
        let name = format!("churn-{half}-{number}");
        let config = requests::pod(&name, &scopes::parent(&name), &logs);
        let pod = cri.run_pod(&config).await;
        let pod = pod.map_err(|error| format!("run pod {name}: {error:?}"))?;
        println!("pod runs {pod}");
        running.push(pod.clone());
        let image = images::name(chance.below(COUNT));
        let script = "for n in 1 2 3 4 5 6; do
            head -c 60000 /bin/busybox >/own/new$n; rm -f /shared/100-0/file$n; done; exec sleep 10000";
        let container = requests::container("main", &image, &["sh", "-c", script]);
        let made = async {
            let id = cri.create(&pod, &container, &config).await?;
            cri.start(&id).await
        };
        match made.await {
            Ok(()) => println!("container runs of {image}"),
            Err(error) => println!("no container of {image}: {}", error.message()),
        }
    }
    Ok(())
}
