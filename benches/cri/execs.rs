//! ExecSync of `true`, one by one and eight at once, and beside it, in turns, what a bare `runc
//! exec` of the same costs in the same container.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use cricket_harness::tools;

use crate::table::{Samples, Table};
use crate::target::Target;

/// Rounds one by one.
const ROUNDS: usize = 100;
/// How many run at once, and how often each lane runs one before it is the other kind's turn.
const LANES: usize = 8;
const TURN: usize = 5;
/// Turns of each kind.
const TURNS: usize = 10;

/// All of it, in one container.
pub async fn measure(target: &Target, image: &str, table: &mut Table) {
    let (pod, container) = target.run("exec", image).await;
    // Only of our own daemon it is known where its runc keeps its state.
    let bare = target.node.as_ref().map(|node| Bare {
        root: node.daemon.runroot().with_file_name("runc"),
        container: container.clone(),
    });
    one_by_one(target, &container, bare.as_ref(), table).await;
    at_once(target, &container, bare.as_ref(), table).await;
    target.end(&pod, &container).await;
}

async fn one_by_one(target: &Target, container: &str, bare: Option<&Bare>, table: &mut Table) {
    let (mut ours, mut floor) = (Samples::default(), Samples::default());
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        target.cri.exec(container, &["true"], 10).await.unwrap();
        ours.since(begun);
        if let Some(bare) = bare {
            let begun = Instant::now();
            bare.run();
            floor.since(begun);
        }
    }
    table.add("ExecSync", ours.spread());
    if bare.is_some() {
        table.add("runc exec, by hand", floor.spread());
        let ratio = ours.percentile(50) / floor.percentile(50);
        table.add("ExecSync : runc exec", format!("{ratio:.2}"));
    }
}

async fn at_once(target: &Target, container: &str, bare: Option<&Bare>, table: &mut Table) {
    let (mut ours, mut floor) = (0.0, 0.0);
    for _ in 0..TURNS {
        let begun = Instant::now();
        let lanes = (0..LANES).map(|_| async move {
            for _ in 0..TURN {
                target.cri.exec(container, &["true"], 10).await.unwrap();
            }
        });
        futures_util::future::join_all(lanes).await;
        ours += begun.elapsed().as_secs_f64();
        if let Some(bare) = bare {
            let begun = Instant::now();
            std::thread::scope(|scope| {
                for _ in 0..LANES {
                    scope.spawn(|| (0..TURN).for_each(|_| bare.run()));
                }
            });
            floor += begun.elapsed().as_secs_f64();
        }
    }
    let rate = |seconds: f64| (LANES * TURN * TURNS) as f64 / seconds;
    table.add("ExecSync, 8 at once", format!("{:.0}/s", rate(ours)));
    if bare.is_some() {
        table.add(
            "runc exec, 8 at once, by hand",
            format!("{:.0}/s", rate(floor)),
        );
        let ratio = rate(ours) / rate(floor);
        table.add("ExecSync : runc exec, 8 at once", format!("{ratio:.2}"));
    }
}

/// `runc exec` as a person would type it.
struct Bare {
    root: PathBuf,
    container: String,
}

impl Bare {
    fn run(&self) {
        let mut command = Command::new(tools::need("runc"));
        command.arg("--root").arg(&self.root);
        command.args(["exec", &self.container, "true"]);
        let status = command.stdin(Stdio::null()).status().unwrap();
        assert!(status.success(), "{command:?}: {status}");
    }
}
